"""The one linear problem behind the solvers.

Minimise ``|D K - R|**2 + tr(D M D^T)`` over ``D`` ``[d_out, d_in]``, with ``M`` positive definite and diagonal in a
known orthonormal basis. The minimiser is ``D = R K^T (K K^T + M)^-1``; with ``X = M^(-1/2) K`` it also is
``R (X^T X + I)^-1 X^T M^(-1/2)``, an ``n x n`` system for ``n`` edits, which the many-edits case turns round again.
Directions of infinite weight are simply left out of the basis.
"""

import torch
from torch import Tensor

Factors = tuple[Tensor, Tensor]
"""``up`` ``[d_out, r]`` and ``down`` ``[r, d_in]``: the change is ``up @ down``."""


def ridge(keys: Tensor, residuals: Tensor, basis: Tensor, weights: Tensor) -> Factors:
    """Solve for keys ``[d_in, n]`` and residuals ``[d_out, n]``.

    Args:
        keys: one column an edit.
        residuals: one column an edit.
        basis: orthonormal columns ``[d_in, m]``; the update stays in their span.
        weights: eigenvalue of ``M`` for each of them ``[m]``, above 0.

    Returns:
        factors of rank ``min(n, m)``.
    """
    root = weights.rsqrt()
    scaled = (basis.T @ keys) * root[:, None]  # X, [m, n]
    back = basis * root  # M^(-1/2) in the basis, [d_in, m]
    n, m = keys.shape[1], basis.shape[1]
    if n <= m:
        inner = scaled.T @ scaled
        inner.diagonal().add_(1.0)
        return _right_solve(residuals, inner), scaled.T @ back.T
    inner = scaled @ scaled.T
    inner.diagonal().add_(1.0)
    return _right_solve(residuals @ scaled.T, inner), back.T.contiguous()


def interpolate(keys: Tensor, residuals: Tensor, basis: Tensor, weights: Tensor) -> Factors:
    """Minimise ``tr(D M D^T)`` subject to ``D K = R``; least squares where the keys are linearly dependent.

    EMMET, arXiv 2401.07453; for a single edit this is ROME's rank-one update (arXiv 2202.05262, equation 2).
    """
    root = weights.rsqrt()
    scaled = (basis.T @ keys) * root[:, None]
    inner = torch.linalg.pinv(scaled.T @ scaled, hermitian=True, rtol=1e-12)
    return residuals @ inner, scaled.T @ (basis * root).T


def _right_solve(left: Tensor, matrix: Tensor) -> Tensor:
    """Return ``left @ matrix^-1`` for a symmetric positive definite matrix."""
    return torch.cholesky_solve(left.T.contiguous(), torch.linalg.cholesky(matrix)).T.contiguous()
