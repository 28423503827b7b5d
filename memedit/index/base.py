"""What every vector index offers."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from memedit.types import FloatArray

IdArray = NDArray[np.int64]


@runtime_checkable
class VectorIndex(Protocol):
    """Inner-product search over unit vectors with caller-given int64 ids (>= 0, unique).

    Implementations lock: adding, removing and searching from several threads is safe.
    """

    @property
    def kind(self) -> str:
        """Registered name: exact, flat, hnsw, ivf, pgvector ..."""

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""

    def __len__(self) -> int:
        """Count the live vectors."""

    def add(self, ids: IdArray, vectors: FloatArray) -> None:
        """Add rows ``[n, d]`` under ``ids [n]``. An id that is present is replaced."""

    def remove(self, ids: IdArray) -> int:
        """Remove ids that are present; return how many were."""

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        """Return scores ``[B, k]`` descending and ids ``[B, k]``; id -1 and score -inf pad what is missing."""

    def save(self, path: Path) -> None:
        """Write atomically (temporary file, fsync, rename)."""
