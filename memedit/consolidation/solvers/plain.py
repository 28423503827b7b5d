"""Plain ridge: every direction of a key costs the same, whatever the base uses it for."""

import torch
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.solvers.ridge import Factors, ridge
from memedit.errors import InputError


def plain(moments: LayerMoments, keys: Tensor, residuals: Tensor, settings: ConsolidationSettings) -> Factors:
    """Return ``D = R K^T (K K^T + l2 I)^-1``, ``l2`` in units of the mean eigenvalue of ``E[k k^T]``.

    UltraEdit (arXiv 2505.14679) has an absolute 1 there.

    Raises:
        InputError: ``l2`` is 0.
    """
    if settings.l2 == 0:
        raise InputError("plain ridge needs l2 above 0: nothing else holds the weights back")
    width = len(moments.values)
    weights = torch.full((width,), settings.l2 * moments.scale, dtype=keys.dtype, device=keys.device)
    return ridge(keys, residuals, torch.eye(width, dtype=keys.dtype, device=keys.device), weights)
