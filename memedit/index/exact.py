"""Exact search in NumPy: the reference that every other index is tested against."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from memedit.index.arrays import read_arrays, write_arrays
from memedit.index.base import IdArray
from memedit.index.common import BaseIndex, top_k
from memedit.types import FloatArray

_SCORES_AT_ONCE = 1 << 25
"""Scores held at a time (128 MB), however many queries come at once."""


class ExactIndex(BaseIndex):
    """All inner products, float32. Memory: 4 d + 8 bytes a vector, and up to twice that after growth."""

    kind: ClassVar[str] = "exact"

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self._vectors: FloatArray = np.zeros((0, dimension), dtype=np.float32)
        self._ids: IdArray = np.zeros(0, dtype=np.int64)
        self._row: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row)

    def _add(self, ids: IdArray, vectors: FloatArray) -> None:
        start = len(self._row)
        rows = np.empty(len(ids), dtype=np.int64)
        for i, key in enumerate(ids.tolist()):
            rows[i] = self._row.setdefault(key, len(self._row))
        self._grow(len(self._row), start)
        self._vectors[rows] = vectors
        self._ids[rows] = ids

    def _grow(self, needed: int, used: int) -> None:
        if needed <= len(self._ids):
            return
        capacity = max(needed, 2 * len(self._ids), 64)
        vectors = np.zeros((capacity, self._dimension), dtype=np.float32)
        ids = np.zeros(capacity, dtype=np.int64)
        vectors[:used], ids[:used] = self._vectors[:used], self._ids[:used]
        self._vectors, self._ids = vectors, ids

    def _remove(self, ids: IdArray) -> int:
        removed = 0
        for key in ids.tolist():
            row = self._row.pop(key, None)
            if row is None:
                continue
            removed += 1
            last = len(self._row)
            if row != last:  # the last row fills the gap
                self._vectors[row], self._ids[row] = self._vectors[last], self._ids[last]
                self._row[int(self._ids[row])] = row
        return removed

    def _search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        n = len(self._row)
        if n == 0:
            return np.zeros((len(queries), 0), dtype=np.float32), np.zeros((len(queries), 0), dtype=np.int64)
        step = max(1, _SCORES_AT_ONCE // n)
        starts = range(0, max(1, len(queries)), step)
        parts = [top_k(queries[i : i + step] @ self._vectors[:n].T, self._ids[:n], k) for i in starts]
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([ids for _, ids in parts])

    def write(self, payload: Path) -> None:
        """Write ids ``[n]`` and vectors ``[n, d]``."""
        n = len(self._row)
        write_arrays(payload, self._ids[:n], self._vectors[:n])

    def read(self, payload: Path) -> None:
        """Fill from what :meth:`write` wrote."""
        self._add(*self._checked(*read_arrays(payload, 2)))
