"""The prompt head: a knowledge vector to continuous prompt tokens (arXiv 2405.03279, section 3.3)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import InputError

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
    """Knowledge vectors to prompts, in two parts.

    :meth:`content` says *what* the answer is: ``h = r_k + relu(W1 r_k + b1)``, ``c = W2 h + b2``, which is the paper's
    head; token j of it is to be the embedding of the target's token j, less the mean of all (which embeddings of small
    models have most of their length in common with), in units of ``rms``, the root mean square of all embeddings.
    :meth:`steer` makes prompts of it that a frozen model takes for what to say: ``rms * gain * (c + W4 relu(W3 c + b3)
    + lead)``, where ``lead`` starts as the mean. Prompts the size of ordinary embeddings hardly move a small model, so
    ``gain [tokens, 1]`` starts at ``GAIN``.
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
        nn.init.zeros_(self.turn.weight)
        lead = torch.zeros(config.hidden_size) if mean is None else mean / rms
        self.lead = nn.Parameter(lead.repeat(config.tokens, 1))
        self.gain = nn.Parameter(torch.full((config.tokens, 1), GAIN))
        self.register_buffer("rms", torch.tensor(float(rms)))

    def content(self, knowledge: Tensor) -> Tensor:
        """``[n, width]`` to what the answer is ``[n, tokens, hidden_size]``."""
        hidden = knowledge + torch.relu(self.refine(knowledge))
        content: Tensor = self.project(hidden)
        return content.view(-1, self.config.tokens, self.config.hidden_size)

    def steer(self, content: Tensor) -> Tensor:
        """``[n, tokens, hidden_size]`` to prompts of that shape."""
        turned = self.turn(torch.relu(self.mix(content.flatten(1)))).view_as(content)
        prompts: Tensor = self.rms * self.gain * (content + turned + self.lead)
        return prompts

    def forward(self, knowledge: Tensor) -> Tensor:
        """``[n, width]`` to prompts ``[n, tokens, hidden_size]``."""
        return self.steer(self.content(knowledge))


@torch.no_grad()
def embedding_moments(model: Any, *, sample: int = 4096) -> tuple[float, Tensor]:
    """Return root mean square and mean ``[d_model]`` of the LM's embeddings as they enter the first layer."""
    module = model.get_input_embeddings()
    count = int(module.weight.shape[0])
    ids = torch.linspace(0, count - 1, min(sample, count), device=module.weight.device).long()
    embeddings = module(ids.unsqueeze(0))[0].float()
    return float(embeddings.pow(2).mean().sqrt()), embeddings.mean(0).cpu()
