"""The prompt head: a knowledge vector to continuous prompt tokens (arXiv 2405.03279, section 3.3)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import InputError


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """Shape of a :class:`PromptHead`: knowledge width r, prompt tokens l (the paper: 3), the LM's hidden size."""

    width: int
    tokens: int
    hidden_size: int

    def __post_init__(self) -> None:
        if min(self.width, self.tokens, self.hidden_size) < 1:
            raise InputError(f"not a prompt head's shape: {self}; sizes must be positive")


class PromptHead(nn.Module):
    """``h = r_k + relu(W1 r_k + b1)``, prompt = ``gain * (W2 h + b2)``, reshaped to ``[tokens, hidden_size]``.

    ``gain`` is the root mean square of the LM's own token embeddings, so that prompts start at the size of what the
    LM is used to (the paper has no gain; it is folded into nothing but the initial scale).
    """

    gain: Tensor

    def __init__(self, config: PromptConfig, *, gain: float) -> None:
        super().__init__()
        self.config = config
        self.refine = nn.Linear(config.width, config.width)
        self.project = nn.Linear(config.width, config.tokens * config.hidden_size)
        self.register_buffer("gain", torch.tensor(float(gain)))

    def forward(self, knowledge: Tensor) -> Tensor:
        """``[n, width]`` to prompts ``[n, tokens, hidden_size]``."""
        hidden = knowledge + torch.relu(self.refine(knowledge))
        prompts: Tensor = self.gain * self.project(hidden)
        return prompts.view(-1, self.config.tokens, self.config.hidden_size)


@torch.no_grad()
def embedding_rms(model: Any, *, sample: int = 1024) -> float:
    """Return the root mean square of the LM's input embeddings as they enter the first layer, scaling included."""
    module = model.get_input_embeddings()
    count = int(module.weight.shape[0])
    ids = torch.linspace(0, count - 1, min(sample, count), device=module.weight.device).long()
    return float(module(ids.unsqueeze(0)).float().pow(2).mean().sqrt())
