"""Second moments of a layer's keys, and linear algebra in their eigenbasis."""

from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.errors import InputError


@dataclass(frozen=True, slots=True)
class LayerMoments:
    """``E[k k^T]`` of the inputs of one layer's edited map, diagonalised once.

    Attributes:
        values: eigenvalues ``[d_in]``, float64, ascending, none below 0.
        vectors: eigenvectors ``[d_in, d_in]``, float64, in columns.
        count: keys seen.
    """

    values: Tensor
    vectors: Tensor
    count: int

    @classmethod
    def of(cls, second_moment: Tensor, count: int) -> "LayerMoments":
        """Diagonalise a second moment ``[d_in, d_in]``.

        Raises:
            InputError: it is not a finite square matrix.
        """
        if second_moment.dim() != 2 or second_moment.shape[0] != second_moment.shape[1]:
            raise InputError(f"a second moment is a square matrix, got the shape {tuple(second_moment.shape)}")
        if not bool(torch.isfinite(second_moment).all()):
            raise InputError("the second moment of the keys is not finite: the model overflows on this text")
        matrix = second_moment.double()
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        return cls(values.clamp(min=0.0), vectors, count)

    @property
    def scale(self) -> float:
        """Mean eigenvalue: the mean square of a key's entry."""
        return float(self.values.mean())

    def matrix(self) -> Tensor:
        """Return ``E[k k^T]`` ``[d_in, d_in]``."""
        return (self.vectors * self.values) @ self.vectors.T

    def null_space(self, threshold: float) -> Tensor:
        """Return the eigenvectors ``[d_in, m]`` whose eigenvalue is below ``threshold`` times :attr:`scale`."""
        return self.vectors[:, self.values < threshold * self.scale]
