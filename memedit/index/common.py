"""What all vector indexes share: checks, locking, saving."""

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from memedit.errors import InputError
from memedit.index.base import IdArray
from memedit.index.storage import IndexManifest, save_payload
from memedit.types import FloatArray


class ReadWriteLock:
    """Many readers or one writer; a waiting writer goes first, so that adds are not starved by searches."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writers_waiting = 0
        self._writing = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock for reading."""
        with self._changed:
            while self._writing or self._writers_waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._changed:
            self._writers_waiting += 1
            while self._writing or self._readers:
                self._changed.wait()
            self._writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class BaseIndex(ABC):
    """Argument checks, the lock and saving; a kind of index fills in the underscored methods.

    Scores are inner products: cosines when vectors are unit, which they should be. Several threads may search at
    once; adding and removing wait for them.

    Args:
        dimension: width d of the vectors.

    Raises:
        InputError: ``dimension`` is below 1.
    """

    kind: ClassVar[str]

    def __init__(self, dimension: int) -> None:
        if not isinstance(dimension, int) or dimension < 1:
            raise InputError(f"dimension {dimension!r} is not a positive integer")
        self._dimension = dimension
        self._lock = ReadWriteLock()

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""
        return self._dimension

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that make an equal empty index; JSON-able."""
        return {}

    @abstractmethod
    def __len__(self) -> int: ...

    def add(self, ids: IdArray, vectors: FloatArray) -> None:
        """Add rows ``[n, d]`` under ``ids [n]``; an id that is present is replaced, the last of equal ids wins.

        Raises:
            InputError: shapes disagree, an id is negative, or a value is not finite. Nothing is added then.
        """
        ids, vectors = self._checked(ids, vectors)
        if len(ids):
            with self._lock.writing():
                self._add(ids, vectors)

    def remove(self, ids: IdArray) -> int:
        """Remove ids that are present; return how many were."""
        unique = np.unique(_as_ids(ids))
        if not len(unique):
            return 0
        with self._lock.writing():
            return self._remove(unique)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        """Return scores ``[B, k]`` descending and ids ``[B, k]``; id -1 and score -inf pad what is missing.

        Raises:
            InputError: the queries are not ``[B, d]`` finite numbers, or ``k`` < 1.
        """
        queries = self._as_rows(queries, "queries")
        if k < 1:
            raise InputError(f"k={k} is below 1")
        with self._lock.reading():
            scores, ids = self._search(queries, self._reachable(k))
        return _padded(scores, ids, k)

    def save(self, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
        """Write atomically (temporary file, fsync, rename); ``metadata`` (JSON) goes into the manifest.

        Raises:
            VectorIndexError: the folder cannot be written or the device is full; the previous file is untouched.
        """
        self._save(Path(path), metadata)

    def _save(self, path: Path, metadata: Mapping[str, Any] | None) -> IndexManifest:
        with self._lock.reading():
            return save_payload(
                path,
                self.write,
                kind=self.kind,
                dimension=self._dimension,
                count=len(self),
                options=self.options,
                metadata=metadata,
            )

    @abstractmethod
    def write(self, payload: Path) -> None:
        """Write everything but the options to one file; the caller holds the lock."""

    @abstractmethod
    def read(self, payload: Path) -> None:
        """Fill this new index from a file made by :meth:`write`."""

    @abstractmethod
    def _add(self, ids: IdArray, vectors: FloatArray) -> None: ...

    @abstractmethod
    def _remove(self, ids: IdArray) -> int: ...

    @abstractmethod
    def _search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]: ...

    def _reachable(self, k: int) -> int:
        """Return how many of ``k`` results to search for: no more than there are, where counting costs nothing."""
        return min(k, max(1, len(self)))

    def _checked(self, ids: IdArray, vectors: FloatArray) -> tuple[IdArray, FloatArray]:
        ids = _as_ids(ids)
        vectors = self._as_rows(vectors, "vectors")
        if len(ids) != len(vectors):
            raise InputError(f"{len(ids)} ids for {len(vectors)} vectors")
        if len(ids) and ids.min() < 0:
            raise InputError(f"id {ids.min()} is negative; ids are int64 >= 0")
        if len(ids) > 1:
            _, last = np.unique(ids[::-1], return_index=True)
            if len(last) < len(ids):
                keep = np.sort(len(ids) - 1 - last)
                ids, vectors = ids[keep], vectors[keep]
        return ids, vectors

    def _as_rows(self, rows: FloatArray, what: str) -> FloatArray:
        array = np.ascontiguousarray(rows, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != self._dimension:
            raise InputError(f"{what} have shape {array.shape}; this index takes [n, {self._dimension}]")
        if not np.isfinite(array).all():
            raise InputError(f"{what} hold values that are not finite")
        return array


def _as_ids(ids: IdArray) -> IdArray:
    array = np.asarray(ids)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"ids have shape {array.shape} and type {array.dtype}; give int64 [n]")
    return np.ascontiguousarray(array, dtype=np.int64)


def _padded(scores: FloatArray, ids: IdArray, k: int) -> tuple[FloatArray, IdArray]:
    """Bring to width ``k``, with -inf where the id is -1."""
    rows, width = ids.shape
    out_scores = np.full((rows, k), -np.inf, dtype=np.float32)
    out_ids = np.full((rows, k), -1, dtype=np.int64)
    out_scores[:, :width] = np.where(ids >= 0, scores, -np.inf)
    out_ids[:, :width] = ids
    return out_scores, out_ids


def top_k(scores: FloatArray, ids: IdArray, k: int) -> tuple[FloatArray, IdArray]:
    """Pick the ``k`` best of ``scores [B, n]`` with their ``ids`` (``[n]`` or ``[B, n]``); ties: smaller id first."""
    ids = np.broadcast_to(ids, scores.shape)
    if k < scores.shape[1]:
        part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, ids = np.take_along_axis(scores, part, 1), np.take_along_axis(ids, part, 1)
    order = np.lexsort((ids, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
