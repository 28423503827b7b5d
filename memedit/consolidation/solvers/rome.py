"""ROME (arXiv 2202.05262), for one edit or many at once (EMMET, arXiv 2401.07453)."""

from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.solvers.ridge import Factors, interpolate


def rome(moments: LayerMoments, keys: Tensor, residuals: Tensor, settings: ConsolidationSettings) -> Factors:
    """Return the smallest update in the metric of ``C0`` that maps every key to its target exactly.

    For one edit ``D = r (C0^-1 k)^T / (k^T C0^-1 k)``.
    """
    values = moments.values.clamp(min=1e-6 * moments.scale).to(keys)
    return interpolate(keys, residuals, moments.vectors.to(keys), values)
