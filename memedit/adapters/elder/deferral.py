"""Deferral: whether a query is near enough to what was trained for the mixture to act at all."""

import torch
from torch import Tensor

from memedit.adapters.elder.codes import hamming

GATES = ("scope", "code", "both")
THRESHOLD = 12
"""Hamming distance at which a query is deferred to the bare model (arXiv 2408.11869, section 4.1)."""


def in_reach(codes: Tensor, stored: Tensor, threshold: int) -> Tensor:
    """Say of each query code ``[n, b]`` whether a stored code ``[m, b]`` lies nearer than ``threshold``, ``[n]``.

    Nothing is in reach of an empty store.
    """
    if not len(stored):
        return torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    return hamming(codes, stored).min(dim=1).values < threshold
