"""Solving in the coordinates of few neurons (after NSE, arXiv 2410.04045)."""

from collections.abc import Callable

import torch
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.solvers.ridge import Factors

Solver = Callable[[LayerMoments, Tensor, Tensor, ConsolidationSettings], Factors]


def chosen_neurons(keys: Tensor, share: float) -> Tensor:
    """Return the smallest set of coordinates of keys ``[d_in, n]`` that holds ``share`` of their summed size.

    ``Q = sum over edits of |k|``; coordinates are taken by falling Q. They come back ascending.
    """
    sizes = keys.abs().sum(1)
    order = sizes.argsort(descending=True, stable=True)
    before = sizes[order].cumsum(0) - sizes[order]
    kept = before < share * sizes.sum()
    return order[kept].sort().values


def on_neurons(
    solver: Solver, moments: LayerMoments, keys: Tensor, residuals: Tensor, settings: ConsolidationSettings
) -> Factors:
    """Solve with ``settings.neuron_share`` of the neurons: keys and moments restricted to them, other columns 0.

    A share of 1 is the solver itself. Unlike NSE, whose covariance is that of the chosen coordinates at every batch,
    all edits choose together. Weights are rewound by the joint solve as such: it starts from the frozen base.
    """
    if settings.neuron_share == 1.0:
        return solver(moments, keys, residuals, settings)
    chosen = chosen_neurons(keys, settings.neuron_share)
    part = LayerMoments.of(moments.matrix()[chosen][:, chosen], moments.count)
    up, down = solver(part, keys[chosen], residuals, settings)
    return up, torch.zeros(len(down), len(keys), dtype=down.dtype, device=down.device).index_copy(1, chosen, down)
