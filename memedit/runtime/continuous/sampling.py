"""Choosing the next token of one row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

_SHORT_LIST = 1024
"""Likeliest tokens looked at for top-p before all are sorted."""


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """How a row's tokens are chosen.

    ``temperature`` 0 takes the likeliest. ``presence_penalty`` and ``frequency_penalty`` are OpenAI's, over the answer;
    ``repetition_penalty`` is CTRL's (arXiv 1909.05858), over prompt and answer. Equal seeds choose alike.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is taken as it is."""
        changed = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0
        return self.temperature == 0.0 and not changed and not self.logit_bias


class TokenChooser:
    """Chooses one row's tokens, with a random generator of its own: its neighbours in the batch do not matter.

    Args:
        choice: how.
        prompt: the caller's prompt, which the repetition penalty counts.
    """

    def __init__(self, choice: TokenChoice, prompt: Sequence[int]) -> None:
        self._choice = choice
        self._seen = dict.fromkeys(prompt) if choice.repetition_penalty != 1.0 else {}
        self._counts: Counter[int] = Counter()
        self._generator: torch.Generator | None = None
        if choice.temperature > 0.0:
            self._generator = torch.Generator()
            if choice.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(choice.seed)

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is taken as it is."""
        return self._choice.plain

    def choose(self, logits: Tensor) -> int:
        """Return the next token for ``logits [v]``, which are left as they are."""
        choice = self._choice
        scores = self._adjusted(logits.float())
        if choice.temperature == 0.0:
            return int(scores.argmax())
        probabilities = _truncated((scores / max(choice.temperature, 1e-5)).softmax(-1), choice.top_k, choice.top_p)
        noise = torch.empty(probabilities.shape).exponential_(generator=self._generator)
        # the arg-max of p / Exp(1) is distributed as p: one pass, where multinomial needs a cumulative sum
        return int((probabilities.cpu() / noise.clamp_min_(1e-30)).argmax())

    def took(self, token: int) -> None:
        """Count a token of the answer."""
        if self._choice.presence_penalty or self._choice.frequency_penalty:
            self._counts[token] += 1
        if self._choice.repetition_penalty != 1.0:
            self._seen[token] = None

    def rewound(self, prompt: Sequence[int], said: Sequence[int]) -> "TokenChooser":
        """Return a chooser for an answer that goes on behind ``said``; it draws from the same generator."""
        found = TokenChooser(replace(self._choice, seed=None), prompt)
        found._choice, found._generator = self._choice, self._generator
        for token in said:
            found.took(token)
        return found

    def _adjusted(self, logits: Tensor) -> Tensor:
        choice = self._choice
        if choice.plain:
            return logits
        scores = logits.clone()
        for token, bias in choice.logit_bias.items():
            if 0 <= token < scores.shape[0]:
                scores[token] += bias
        if self._seen:
            seen = torch.tensor(list(self._seen), device=scores.device)
            values, penalty = scores[seen], choice.repetition_penalty
            scores[seen] = torch.where(values < 0, values * penalty, values / penalty)
        if self._counts:
            tokens = torch.tensor(list(self._counts), device=scores.device)
            counts = torch.tensor(list(self._counts.values()), dtype=scores.dtype, device=scores.device)
            scores[tokens] -= choice.frequency_penalty * counts + choice.presence_penalty
        return scores


def _truncated(probabilities: Tensor, top_k: int | None, top_p: float) -> Tensor:
    """Set to zero what lies outside the ``top_k`` likeliest and the nucleus of mass ``top_p`` (arXiv 1904.09751)."""
    size = probabilities.shape[0]
    if top_k is not None and 0 < top_k < size:
        least = probabilities.topk(top_k).values[-1]
        probabilities = torch.where(probabilities < least, 0.0, probabilities)
        probabilities = probabilities / probabilities.sum()
    if top_p >= 1.0:
        return probabilities
    values, order = probabilities.topk(min(_SHORT_LIST, size))
    if values.sum() < top_p:
        values, order = probabilities.sort(descending=True)
    before = values.cumsum(0) - values  # the token that crosses the line stays in
    kept = torch.zeros_like(probabilities)
    inside = order[before < top_p]
    kept[inside] = probabilities[inside]
    return kept
