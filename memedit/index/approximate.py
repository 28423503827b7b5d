"""What approximate indexes share: exact re-scoring of candidates, tombstones, rebuilding."""

from abc import abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memedit.errors import InputError
from memedit.index.arrays import read_arrays, write_arrays
from memedit.index.base import IdArray
from memedit.index.common import BaseIndex, top_k
from memedit.types import FloatArray

RowArray = NDArray[np.int64]


class RowStore:
    """Float32 vectors in rows that are never reused: adding appends, removing marks a row dead.

    ``vectors [capacity, d]``, ``ids`` and ``alive`` run parallel; the first ``used`` rows are filled.
    """

    def __init__(self, dimension: int) -> None:
        self.vectors: FloatArray = np.zeros((0, dimension), dtype=np.float32)
        self.ids: IdArray = np.zeros(0, dtype=np.int64)
        self.alive: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.used = 0
        self.row_of: dict[int, int] = {}

    @property
    def dead(self) -> int:
        """Rows that a search has to step over."""
        return self.used - len(self.row_of)

    def append(self, ids: IdArray, vectors: FloatArray) -> RowArray:
        """Add rows, marking dead what the ids had before; return their numbers."""
        self.kill(ids)
        rows = np.arange(self.used, self.used + len(ids), dtype=np.int64)
        self._grow(self.used + len(ids))
        self.vectors[rows], self.ids[rows], self.alive[rows] = vectors, ids, True
        self.row_of.update(zip(ids.tolist(), rows.tolist(), strict=True))
        self.used += len(ids)
        return rows

    def kill(self, ids: IdArray) -> int:
        """Mark the rows of ``ids`` dead; return how many there were."""
        rows = [row for row in (self.row_of.pop(key, None) for key in ids.tolist()) if row is not None]
        self.alive[rows] = False
        return len(rows)

    def compact(self) -> None:
        """Drop dead rows; the others move up and get new numbers."""
        self.fill(self.ids[: self.used][self._live()], self.vectors[: self.used][self._live()])

    def fill(self, ids: IdArray, vectors: FloatArray) -> None:
        """Hold exactly these rows, all alive."""
        self.vectors, self.ids, self.used = vectors, ids, len(ids)
        self.alive = np.ones(len(ids), dtype=np.bool_)
        self.row_of = dict(zip(ids.tolist(), range(len(ids)), strict=True))

    def best(self, query: FloatArray, k: int, rows: RowArray | None = None) -> tuple[FloatArray, IdArray]:
        """Return exact scores and ids ``[k]`` of the best live rows, of all or of ``rows`` (distinct)."""
        if rows is None:
            rows = np.flatnonzero(self._live())
            vectors = self.vectors[: self.used] if len(rows) == self.used else self.vectors[rows]
        else:
            rows = rows[self.alive[rows]]
            vectors = self.vectors[rows]
        if not len(rows):
            return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
        scores, ids = top_k((vectors @ query)[None], self.ids[rows], min(k, len(rows)))
        return scores[0], ids[0]

    def _live(self) -> NDArray[np.bool_]:
        return self.alive[: self.used]

    def _grow(self, needed: int) -> None:
        if needed <= len(self.ids):
            return
        # Half as much again rather than twice: at a million vectors the slack is gigabytes.
        capacity = needed if self.used == 0 else max(needed, self.used + self.used // 2, 64)
        for name in ("vectors", "ids", "alive"):
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: self.used] = old[: self.used]
            setattr(self, name, new)


class ApproximateIndex(BaseIndex):
    """Finds candidate rows with a structure of its own kind and scores them exactly.

    Scores are therefore exact inner products; what is approximate is only which rows are looked at. Up to
    ``exact_below`` vectors all are. Removed rows stay in the structure as tombstones: they are dropped from the
    candidates, and when too few are left the search widens, at last to all rows. When there is one dead row for three
    live ones the structure is rebuilt, which adding and searching wait for.

    Args:
        exact_below: number of vectors up to which every vector is looked at.
    """

    def __init__(self, dimension: int, *, exact_below: int) -> None:
        super().__init__(dimension)
        if exact_below < 0:
            raise InputError(f"exact_below={exact_below} is negative")
        self._exact_below = exact_below
        self._store = RowStore(dimension)
        self._ready = False

    def __len__(self) -> int:
        return len(self._store.row_of)

    def _add(self, ids: IdArray, vectors: FloatArray) -> None:
        rows = self._store.append(ids, vectors)
        if self._rebuild_if_due() or not self._ready:
            return
        self._insert(rows)

    def _remove(self, ids: IdArray) -> int:
        removed = self._store.kill(ids)
        self._rebuild_if_due()
        return removed

    def _search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        found = self._candidates(queries, k, widen=1) if self._ready else None
        for i, query in enumerate(queries):
            row_scores, row_ids = self._store.best(query, k, None if found is None else found[i][found[i] >= 0])
            if found is not None and len(row_ids) < min(k, len(self)):
                row_scores, row_ids = self._search_wider(query, k)
            scores[i, : len(row_ids)], ids[i, : len(row_ids)] = row_scores, row_ids
        return scores, ids

    def _search_wider(self, query: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        """Search again with more candidates where tombstones crowded out the living."""
        for widen in (4, 16):
            rows = self._candidates(query[None], k, widen=widen)[0]
            scores, ids = self._store.best(query, k, rows[rows >= 0])
            if len(ids) == min(k, len(self)):
                return scores, ids
        return self._store.best(query, k)

    def _rebuild_if_due(self) -> bool:
        """Build the structure anew when it is due; whether it was."""
        store = self._store
        crowded = store.dead > max(64, len(store.row_of) // 3)
        if crowded:
            store.compact()
        # Half as low once there is a structure, so that a memory at the limit does not rebuild at every change.
        if len(store.row_of) <= self._exact_below // (2 if self._ready else 1):
            self._ready = False
            return True
        if self._ready and not crowded and not self._outgrown(store.used):
            return False
        if store.dead:
            store.compact()
        self._build(store.vectors[: store.used])
        self._ready = True
        return True

    def write(self, payload: Path) -> None:
        """Write rows and structure."""
        store = self._store
        structure = self._structure() if self._ready else np.zeros(0, dtype=np.uint8)
        used = store.used
        write_arrays(payload, store.ids[:used], store.alive[:used], store.vectors[:used], structure)

    def read(self, payload: Path) -> None:
        """Fill from what :meth:`write` wrote."""
        ids, alive, vectors, structure = read_arrays(payload, 4)
        if not len(ids) == len(alive) == len(vectors) or vectors.shape[1:] != (self._dimension,):
            raise ValueError(f"{len(ids)} ids, {len(alive)} marks and vectors {vectors.shape} do not belong together")
        self._store.fill(ids, vectors)
        self._store.alive = alive
        self._store.row_of = {int(ids[row]): int(row) for row in np.flatnonzero(alive)}
        if len(structure):
            self._adopt(structure)
            self._ready = True

    @abstractmethod
    def _build(self, vectors: FloatArray) -> None:
        """Make the structure anew from all rows."""

    @abstractmethod
    def _insert(self, rows: RowArray) -> None:
        """Add rows (the next ones) to the structure."""

    @abstractmethod
    def _candidates(self, queries: FloatArray, k: int, widen: int) -> RowArray:
        """Return row numbers ``[B, >= k]`` worth looking at, -1 for none; more of them the larger ``widen``."""

    @abstractmethod
    def _structure(self) -> NDArray[np.uint8]:
        """Serialise the structure."""

    @abstractmethod
    def _adopt(self, structure: NDArray[np.uint8]) -> None:
        """Restore the structure."""

    def _outgrown(self, rows: int) -> bool:
        """Tell whether the structure was made for far fewer rows than there are now."""
        return False
