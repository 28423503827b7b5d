"""What is done to an update after it was solved for: RECT, PRUNE and O-Edit."""

import torch
from torch import Tensor

from memedit.consolidation.solvers.ridge import Factors
from memedit.errors import InputError

PRUNE_BASE = 1.2
"""Base of PRUNE's logarithm (the paper's setting)."""


def rect(update: Tensor, weight: Tensor, keep: float) -> Tensor:
    """RECT (arXiv 2401.04700): keep the entries with the largest relative change ``|D / W|``; others become 0.

    Args:
        update: ``[d_out, d_in]``.
        weight: the frozen weight, same shape.
        keep: share of entries kept.

    Raises:
        InputError: ``keep`` is not in (0, 1].
    """
    if not 0 < keep <= 1:
        raise InputError(f"RECT keeps a share of entries in (0, 1], got {keep}")
    count = max(1, round(keep * update.numel()))
    relative = (update / weight.to(update)).abs().nan_to_num(nan=0.0).reshape(-1)
    chosen = torch.topk(relative, count).indices
    kept = torch.zeros_like(update).reshape(-1)
    kept[chosen] = update.reshape(-1)[chosen]
    return kept.reshape(update.shape)


def prune(factors: Factors, weight: Tensor) -> Factors:
    """PRUNE (arXiv 2405.16821): singular values of the update above the weight's largest grow by their logarithm only.

    ``F(s) = log_a(s) - log_a(max sigma) + max sigma`` with ``a = 1.2`` for ``s > max sigma``, else ``s``.
    """
    up, down = factors
    left, values, right = _svd(up, down)
    largest = torch.linalg.matrix_norm(weight.to(up), ord=2)
    restrained = torch.log(values / largest) / torch.log(torch.tensor(PRUNE_BASE, dtype=up.dtype)) + largest
    values = torch.where(values > largest, restrained, values)
    return left * values, right


def keep_off(factors: Factors, earlier: Tensor, share: float) -> Factors:
    """After O-Edit+ (arXiv 2410.11469): take out of an update what earlier updates read, ``D <- D (I - S S^T)``.

    ``S`` spans the input directions, largest singular values first, that hold ``share`` of the energy of ``earlier``
    ``[d_out, d_in]``. The paper's constants and its subspace of general text could not be had; against what the base
    itself reads stand MEMIT's moments.

    Raises:
        InputError: ``share`` is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"O-Edit keeps off a share of earlier updates in (0, 1], got {share}")
    up, down = factors
    _, values, directions = torch.linalg.svd(earlier.to(down), full_matrices=False)
    energy = values.square().cumsum(0)
    count = int((energy < share * energy[-1]).sum()) + 1
    space = directions[:count]
    return up, down - (down @ space.T) @ space


def _svd(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the thin SVD of ``up @ down`` without forming it: ``left * values @ right``."""
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return q_up @ left, values, right @ q_down.T
