"""AlphaEdit (arXiv 2410.02355): the update stays in the null space of the keys to preserve."""

import torch
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.solvers.ridge import Factors, ridge
from memedit.errors import InputError


def alphaedit(moments: LayerMoments, keys: Tensor, residuals: Tensor, settings: ConsolidationSettings) -> Factors:
    """Return ``D = R K^T P (K K^T P + l2 I)^-1`` with ``P = U U^T`` (equation 14, all edits at once).

    ``U`` are the eigenvectors of ``E[k k^T]`` under the threshold; threshold and ``l2`` are in units of the mean
    eigenvalue.

    Raises:
        InputError: no eigenvalue is under the threshold, or ``l2`` is 0.
    """
    space = moments.null_space(settings.null_space_threshold)
    if space.shape[1] == 0 or settings.l2 == 0:
        raise InputError(
            f"AlphaEdit has nothing to work with: {space.shape[1]} directions under the null-space threshold "
            f"{settings.null_space_threshold}, l2 {settings.l2}; raise what is 0"
        )
    weights = torch.full((space.shape[1],), settings.l2 * moments.scale, dtype=keys.dtype, device=keys.device)
    return ridge(keys, residuals, space.to(keys), weights)
