"""KnowledgeEditor's network (De Cao et al., arXiv 2104.08164): an edit's text says how its gradient is used."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memedit.models.hypernet.config import HypernetConfig

_WIDTH = 512


class KnowledgeEditor(nn.Module):
    """Gates the gradient of each edited map by what a text encoder makes of the edit.

    A bidirectional LSTM reads the embeddings of "new answer || prompt"; its last states are the condition ``c``. For
    each map an MLP turns ``c`` into ``ca [d_in]``, ``ra [d_out]``, ``cb``, ``rb`` and ``s``, and the edit adds
    ``dW = - lr_m sigmoid(s) (G * softmax(ra) ca^T + softmax(rb) cb^T)`` with ``G = sum_t d_t x_t^T``. Gating a sum of
    outer products by an outer product gates its factors, so n tokens give n + 1 factors and no matrix is formed.

    Ours: softmaxes are times their width, ``ca`` starts at 1 and inputs and gradients are divided by their root mean
    squares over training, so that the untrained network takes a gradient step of known length.

    Args:
        config: its shape; ``rank`` is the LSTM's width.
        d_in: width of what the maps read.
        d_out: width of what they write.
        d_model: width of the embeddings.
        step_size: of every map, before training.
        seed: decides the random start; the global random state stays.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, config: HypernetConfig, d_in: int, d_out: int, d_model: int, *, step_size: float = 1e-3, seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.d_in, self.d_out = config, d_in, d_out
        count = len(config.layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.reader = nn.LSTM(d_model, config.rank, bidirectional=True)
            self.heads = nn.ModuleList(_head(2 * config.rank, 2 * (d_in + d_out) + 1) for _ in range(count))
        self.step_sizes = nn.Parameter(torch.full((count,), math.log(math.expm1(step_size))))
        self.register_buffer("mean", torch.zeros(d_in + d_out))
        self.register_buffer("deviation", torch.ones(d_in + d_out))

    @torch.no_grad()
    def normalise_by(self, mean: Tensor, deviation: Tensor) -> None:
        """Take the root mean squares of inputs and of gradients from their mean and deviation ``[d_in + d_out]``."""
        squares = mean.square() + deviation.square()
        self.deviation[: self.d_in] = squares[: self.d_in].mean().sqrt()
        self.deviation[self.d_in :] = squares[self.d_in :].mean().sqrt()

    def forward(self, inputs: Tensor, gradients: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """``[m, n, d_in]`` and ``[m, n, d_out]`` of an edit, and embeddings ``[t, d_model]``, to n + 1 factors.

        The edit adds ``sum_t up_t down_t^T`` to each map's weight.
        """
        states = self.reader(text)[1][0].flatten()
        said = torch.stack([head(torch.tanh(states)) for head in self.heads])
        widths = [self.d_in, self.d_out, self.d_in, self.d_out, 1]
        column, row, free_column, free_row, share = torch.split(said, widths, -1)
        size = functional.softplus(self.step_sizes)[:, None] * torch.sigmoid(share)
        down = torch.cat([inputs / self.deviation[: self.d_in] * (1 + column[:, None]), free_column[:, None]], 1)
        gated = gradients / self.deviation[self.d_in :] * _weights(row)[:, None]
        return down, -size[:, None] * torch.cat([gated, _weights(free_row)[:, None]], 1)


@torch.no_grad()
def read_text(model: Any, query: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Return the model's embeddings ``[t, d_model]`` of what a :class:`KnowledgeEditor` reads of an edit."""
    ids = torch.tensor([*answer, *query], device=model.device)
    embedded: Tensor = model.get_input_embeddings()(ids).float()
    return embedded


def _head(width: int, out: int) -> nn.Module:
    last = nn.Linear(_WIDTH, out)
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, _WIDTH), nn.Tanh(), last)


def _weights(scores: Tensor) -> Tensor:
    """Return a softmax times its width: 1 where all scores are alike."""
    return scores.softmax(-1) * scores.shape[-1]
