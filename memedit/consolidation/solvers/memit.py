"""MEMIT (arXiv 2210.07229): least squares between the edits and what the weight does already."""

from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.solvers.ridge import Factors, ridge


def memit(moments: LayerMoments, keys: Tensor, residuals: Tensor, settings: ConsolidationSettings) -> Factors:
    """Return ``D = R K^T (lambda C0 + K K^T)^-1`` (equation 14), ``lambda`` being ``mom2_weight``.

    Eigenvalues of ``C0`` are kept above a millionth of their mean, so that directions that no text took are usable
    but not free.
    """
    values = moments.values.clamp(min=1e-6 * moments.scale).to(keys)
    return ridge(keys, residuals, moments.vectors.to(keys), settings.mom2_weight * values)
