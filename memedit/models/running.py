"""Mean and deviation of vectors, over all that were ever seen or over a set in one pass."""

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-7
"""Added to a deviation before dividing by it (MEND's and UltraEdit's normaliser)."""


@dataclass(frozen=True, slots=True)
class RunningMoments:
    """Count, mean ``[d]`` and sum of squared deviations ``[d]`` of the rows seen so far, float64.

    Rows may come in any number of parts: Chan's merge gives what one pass over all of them gives, to rounding.
    """

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, width: int, device: torch.device | None = None) -> "RunningMoments":
        """Return the moments of nothing."""
        return cls(0, *(torch.zeros(width, dtype=torch.float64, device=device) for _ in range(2)))

    @classmethod
    def of(cls, rows: Tensor) -> "RunningMoments":
        """Return the moments of rows ``[n, d]``."""
        values = rows.detach().double()
        if not len(values):
            return cls.empty(rows.shape[1], rows.device)
        mean = values.mean(0)
        return cls(len(values), mean, (values - mean).pow(2).sum(0))

    def merged(self, other: "RunningMoments") -> "RunningMoments":
        """Return the moments of both sets of rows together."""
        count = self.count + other.count
        if not self.count or not other.count:
            return other if other.count else self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart.pow(2) * (self.count * other.count / count)
        return RunningMoments(count, mean, squares)

    def with_rows(self, rows: Tensor) -> "RunningMoments":
        """Return the moments with rows ``[n, d]`` added."""
        return self.merged(RunningMoments.of(rows))

    @property
    def deviation(self) -> Tensor:
        """The unbiased standard deviation ``[d]``; 0 of fewer than two rows."""
        return (self.squares / max(self.count - 1, 1)).sqrt()

    def normalised(self, rows: Tensor) -> Tensor:
        """Return ``(rows - mean) / (deviation + EPSILON)`` ``[n, d]`` in the rows' dtype."""
        return ((rows.double() - self.mean) / (self.deviation + EPSILON)).to(rows.dtype)
