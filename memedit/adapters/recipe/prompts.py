"""The prompt head: a knowledge vector to continuous prompt tokens (arXiv 2405.03279, section 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memedit.errors import InputError
from memedit.models.tokenizers import encode_as_data

GAIN = 3.0


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """Shape of a :class:`PromptHead`.

    Args:
        width: of the knowledge vectors (r).
        tokens: prompt tokens of an edit (l; the paper: 3).
        hidden_size: the language model's.
        inner: units between what an edit says and how the model is made to say it.
    """

    width: int
    tokens: int
    hidden_size: int
    inner: int

    def __post_init__(self) -> None:
        if min(self.width, self.tokens, self.hidden_size, self.inner) < 1:
            raise InputError(f"not a prompt head's shape: {self}; sizes must be positive")


class PromptHead(nn.Module):
    """Knowledge vectors, and the targets as they are spelt, to prompts.

    What is to be said is ``c = s + W2 h / |h| + b2`` with ``h = r_k + relu(W1 r_k + b1)``: the paper's head, on top of
    the embeddings ``s`` of the target's first tokens (:class:`Spelling`), which it must not drown. A sentence
    encoder's vector tells what a target means and not how it is spelt ("Edinburgh" for "Glasgow"), so in the paper's
    form, without ``s``, a head says something like the target. Prompts that a frozen model takes for what to say are
    ``rms * gain * (c + W4 relu(W3 c + b3) + lead)``: those the size of ordinary embeddings hardly move a small model,
    so ``gain [tokens, 1]`` starts at ``GAIN``, and ``lead`` at the mean of all embeddings. What is learnt starts at
    nothing: untrained prompts are the target's embeddings, enlarged.
    """

    rms: Tensor

    def __init__(self, config: PromptConfig, *, rms: float = 1.0, mean: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        size = config.tokens * config.hidden_size
        self.refine = nn.Linear(config.width, config.width)
        self.project = nn.Linear(config.width, size)
        self.mix = nn.Linear(size, config.inner)
        self.turn = nn.Linear(config.inner, size, bias=False)
        for added in (self.project.weight, self.project.bias, self.turn.weight):
            nn.init.zeros_(added)
        lead = torch.zeros(config.hidden_size) if mean is None else mean / rms
        self.lead = nn.Parameter(lead.repeat(config.tokens, 1))
        self.gain = nn.Parameter(torch.full((config.tokens, 1), GAIN))
        self.register_buffer("rms", torch.tensor(float(rms)))

    def forward(self, knowledge: Tensor, spelt: Tensor) -> Tensor:
        """``[n, width]`` and ``[n, tokens, hidden_size]`` to prompts ``[n, tokens, hidden_size]``."""
        hidden = knowledge + torch.relu(self.refine(knowledge))
        content = spelt + self.project(functional.normalize(hidden, dim=-1)).view_as(spelt)
        turned = self.turn(torch.relu(self.mix(content.flatten(1)))).view_as(content)
        prompts: Tensor = self.rms * self.gain * (content + turned + self.lead)
        return prompts


class Spelling:
    """The first tokens of targets as a frozen language model's embeddings, less the mean of all, over their rms.

    Embeddings of small models have most of their length in common, so it is taken off. Behind a target's last token
    stands the end token's.

    Args:
        model: the language model.
        tokenizer: its tokenizer.
        tokens: of each target.
    """

    def __init__(self, model: Any, tokenizer: Any, tokens: int) -> None:
        self._embeddings, self._tokenizer, self._tokens = model.get_input_embeddings(), tokenizer, tokens
        self.rms, mean = embedding_moments(model)
        self._mean = mean.to(self._embeddings.weight.device)

    @torch.no_grad()
    def of(self, targets: Sequence[str]) -> Tensor:
        """Return ``[n, tokens, hidden_size]``, float32."""
        end = int(self._tokenizer.eos_token_id or 0)
        rows = [encode_as_data(self._tokenizer, f" {target.strip()}")[: self._tokens] for target in targets]
        ids = torch.tensor([[*row, *[end] * (self._tokens - len(row))] for row in rows], device=self._mean.device)
        spelt: Tensor = (self._embeddings(ids).float() - self._mean) / self.rms
        return spelt


@torch.no_grad()
def embedding_moments(model: Any, *, sample: int = 4096) -> tuple[float, Tensor]:
    """Return root mean square and mean ``[d_model]`` of the LM's embeddings as they enter the first layer."""
    module = model.get_input_embeddings()
    count = int(module.weight.shape[0])
    ids = torch.linspace(0, count - 1, min(sample, count), device=module.weight.device).long()
    embeddings = module(ids.unsqueeze(0))[0].float()
    return float(embeddings.pow(2).mean().sqrt()), embeddings.mean(0).cpu()
