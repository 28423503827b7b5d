"""The judge's network: the sentence encoder's transformer, trained on, with two heads.

As a *relation encoder* it maps a text with its subject masked to a unit vector; two texts ask the same where the scaled
product of their vectors is high (sigmoid loss over all pairs; Zhai et al. 2023, arXiv 2303.15343). As a *cross-encoder*
(Nogueira & Cho 2019, arXiv 1901.04085) it reads a query beside an edit. The lower layers read each text alone, for both
heads at once; only the last ones of the cross-encoder read both together (Cao et al. 2020, arXiv 2005.00697), so that a
further pair of known texts costs a third of a pass.
"""

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from memedit.encoders.sentence import readable

MASK = "[MASK]"
"""What stands for the subject in the texts given to the network."""
TEXT_TOKENS = 128
JOINED_LAYERS = 2
"""So many layers of the cross-encoder read query and edit together."""
TRAINED_LAYERS = 6
"""So many of the transformer's last layers are trained; those below stay the sentence encoder's."""
_PART = 32


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Token states of texts under the joined layers: ``tokens [sum of lengths, d]``, and each text's length."""

    tokens: Tensor
    lengths: tuple[int, ...]

    def each(self) -> tuple[Tensor, ...]:
        """Return the states of each text, ``[length, d]``."""
        return torch.split(self.tokens, list(self.lengths))

    @staticmethod
    def of(texts: Sequence[Tensor]) -> "States":
        """Put the states of single texts together."""
        return States(torch.cat(list(texts)), tuple(len(text) for text in texts))


class JudgeNetwork(nn.Module):
    """Relation encoder and cross-encoder over one transformer of width ``d``."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        width = int(transformer.config.hidden_size)
        self.transformer = transformer
        self._below = max(1, len(transformer.encoder.layer) - JOINED_LAYERS)
        self.joined = nn.ModuleList(copy.deepcopy(layer) for layer in transformer.encoder.layer[self._below :])
        self.sides = nn.Parameter(torch.zeros(2, width))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.shift = nn.Parameter(torch.tensor(-6.0))
        self.head = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, 2))

    def is_trained(self, name: str) -> bool:
        """Say of a parameter's name whether training may change it: embeddings, pooler and the lowest layers stay."""
        lowest = len(self._layers) - TRAINED_LAYERS
        fixed = [f"transformer.encoder.layer.{number}." for number in range(max(0, lowest))]
        return not name.startswith(("transformer.embeddings.", "transformer.pooler.", *fixed))

    def begin_joined(self) -> None:
        """Give the joined layers the weights that the relation encoder's last layers have now."""
        for own, last in zip(self.joined, self._layers[self._below :], strict=True):
            own.load_state_dict(last.state_dict())

    @property
    def _layers(self) -> Any:
        return self.transformer.encoder.layer

    def read(self, rows: Sequence[Sequence[int]], *, vectors: bool = True) -> tuple[States, Tensor | None]:
        """Read texts alone.

        Args:
            rows: token ids of each text.
            vectors: whether the relation encoder's vectors are wanted too.

        Returns:
            Their states, and unit vectors ``[n, d]``.
        """
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        states: list[Tensor] = [torch.empty(0)] * len(rows)
        found: list[Tensor] = []
        for at in range(0, len(order), _PART):
            chosen = order[at : at + _PART]
            ids, mask = _padded([rows[i] for i in chosen])
            hidden = self.transformer.embeddings(input_ids=ids)
            hidden = _through(self._layers[: self._below], hidden, mask)
            flat = hidden.reshape(-1, hidden.shape[-1])[mask.reshape(-1).nonzero().squeeze(1)]
            for i, text in zip(chosen, torch.split(flat, [len(rows[i]) for i in chosen]), strict=True):
                states[i] = text
            if vectors:
                mean = _mean(_through(self._layers[self._below :], hidden, mask), mask)
                found.append(nn.functional.normalize(mean, dim=-1))
        if not vectors:
            return States.of(states), None
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return States.of(states), torch.cat(found)[back]

    def similarity_logits(self, products: Tensor) -> Tensor:
        """Return logits for products of vectors, of any shape."""
        return self.scale.exp() * products + self.shift

    def pair_logits(self, states: States, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Return two logits a pair ``[n, 2]``: the edit answers the query; its target, as it is, is the answer.

        Args:
            states: of texts.
            pairs: of each, which text is the query and which the edit.
        """
        starts = torch.tensor([0, *states.lengths]).cumsum(0).tolist()
        order = sorted(range(len(pairs)), key=lambda k: sum(states.lengths[i] for i in pairs[k]))
        found = []
        for at in range(0, len(order), _PART):
            chosen = [pairs[k] for k in order[at : at + _PART]]
            found.append(self._pair_logits(states, chosen, starts))
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(found)[back]

    def _pair_logits(self, states: States, pairs: Sequence[tuple[int, int]], starts: Sequence[int]) -> Tensor:
        spans = [[(starts[i], states.lengths[i]) for i in pair] for pair in pairs]
        width = max(first + second for (_, first), (_, second) in spans)
        places = torch.zeros(len(pairs), width, dtype=torch.long)
        sides = torch.full((len(pairs), width), -1)
        for row, ((query, asked), (edit, stored)) in enumerate(spans):
            places[row, :asked] = torch.arange(query, query + asked)
            places[row, asked : asked + stored] = torch.arange(edit, edit + stored)
            sides[row, :asked] = 0
            sides[row, asked : asked + stored] = 1
        hidden = states.tokens.index_select(0, places.reshape(-1)).reshape(*places.shape, -1)
        hidden = hidden + self.sides[sides.clamp(min=0)]
        hidden = _through(self.joined, hidden, (sides >= 0).long())
        first, second = _mean(hidden, sides == 0), _mean(hidden, sides == 1)
        logits: Tensor = self.head(torch.cat([first, second, first * second, (first - second).abs()], -1))
        return logits


def _through(layers: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """Send ``hidden [n, t, d]`` through layers; ``mask [n, t]`` is 0 where a text has ended."""
    bias = (1.0 - mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
    seen = None if bool(mask.all()) else bias
    for layer in layers:
        out = layer(hidden, seen)
        hidden = out[0] if isinstance(out, tuple) else out
    return hidden


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids and mask ``[n, t]``."""
    ids = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


class JudgeTokenizer:
    """Tokenises texts for the network. Safe to use from several threads.

    Args:
        tokenizer: a fast tokenizer of the Hugging Face kind.
        positions: the most tokens that the transformer reads.
    """

    def __init__(self, tokenizer: Any, positions: int = 512) -> None:
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_padding()
        backend.no_truncation()
        self._backend, self._mask = backend, str(tokenizer.mask_token)
        self._limit = min(TEXT_TOKENS, positions)
        self._cls, self._sep = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)
        self.is_rare = functools.lru_cache(maxsize=1 << 16)(self._cut)
        """Says of a word whether the vocabulary does not hold it whole; forgotten with the tokenizer."""

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts; of one that is too long the first and, three times as many, the last."""
        shown = [readable(text).replace(MASK, self._mask) for text in texts]
        pieces = self._backend.encode_batch(shown, add_special_tokens=False)
        return [[self._cls, *_ends(piece.ids, self._limit - 2), self._sep] for piece in pieces]

    def _cut(self, word: str) -> bool:
        return len(self._backend.encode(word, add_special_tokens=False).ids) > 1


def _ends(ids: Sequence[int], limit: int) -> list[int]:
    """Cut the middle out of what is too long."""
    if len(ids) <= limit:
        return list(ids)
    return [*ids[: limit // 4], *ids[len(ids) - (limit - limit // 4) :]]
