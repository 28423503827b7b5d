"""The in-memory indexes of one namespace, kept in step with the store.

The store is the truth. A vector index lies beside the database file as a cache; its manifest says which change it
includes. Whatever the manifest disagrees about (encoder, kind, the identity of that change, the number of rows) makes
it worthless and it is rebuilt from the vectors in the store; what is merely newer is caught up from the change log.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, func, select

from memedit.errors import FingerprintMismatchError, StoreCorruptError, VectorIndexError
from memedit.index import SubjectIndex, create_index, load_index, read_manifest
from memedit.index.base import IdArray, VectorIndex
from memedit.index.common import BaseIndex
from memedit.memory.encoding import EncoderSource, join_vectors
from memedit.memory.reading import CURRENT, chunks, store_revision, vector_rows
from memedit.memory.rows import IN_FORCE
from memedit.memory.schema import ORDINAL_BITS, changes, edits
from memedit.memory.writer import known_encoder
from memedit.types import FloatArray

_REBUILD_SHARE = 0.5
_UNSAVED_ROWS = 256
_UNSAVED_SHARE = 0.01
FORGOTTEN = "forget"
"""The action in the change log after which indexes are filled anew."""
_IN_FORCE = edits.c.state.in_(IN_FORCE)


class NamespaceIndex:
    """Vector index and subject index over the edits of one namespace that are in force.

    Args:
        namespace: whose edits.
        encoder: gives the vectors' fingerprint and width.
        kind: a registered vector index; ``options`` are its own.
        folder: where the vector index is cached, None for a store without a file.
    """

    def __init__(
        self, namespace: str, encoder: EncoderSource, kind: str, options: Mapping[str, Any], folder: Path | None
    ) -> None:
        self.namespace = namespace
        self.revision = -1
        self.changed: set[int] = set()
        self._encoder, self._kind, self._options = encoder, kind, dict(options)
        self.path = None if folder is None else folder / f"{_file_name(namespace)}.json"
        self._lock = threading.RLock()
        self._index: BaseIndex | None = None
        self._subjects = SubjectIndex()
        self._saved_revision = -1

    @property
    def vectors(self) -> BaseIndex:
        """The vector index; :meth:`refresh` must have run."""
        assert self._index is not None
        return self._index

    @property
    def subjects(self) -> SubjectIndex:
        """The subjects by ``seq``; :meth:`refresh` must have run."""
        return self._subjects

    @property
    def loaded(self) -> bool:
        """Whether it has ever been filled."""
        return self._index is not None

    @property
    def outdated(self) -> bool:
        """Whether the cached file lacks more than a little of what the index has."""
        unsaved = self.revision - max(self._saved_revision, 0)
        return unsaved >= max(_UNSAVED_ROWS, _UNSAVED_SHARE * len(self.vectors))

    def searcher(self, connection: Callable[[], Connection]) -> VectorIndex:
        """The vector index to search at the moment that ``connection`` sees; :meth:`refresh` must have run."""
        return self.vectors

    def count_rows(self, connection: Connection) -> int | None:
        """Rows of the index in memory or, failing that, of the cached file; None when there is neither."""
        if self.loaded:
            return len(self.vectors)
        try:
            return None if self.path is None else read_manifest(self.path).count
        except (OSError, ValueError, VectorIndexError):
            return None

    def problems(self, connection: Connection) -> list[str]:
        """What is wrong with the cached file."""
        if self.path is not None and self.path.exists():
            try:
                load_index(self.path)
            except (VectorIndexError, OSError) as error:
                return [f"index file: {error}"]
        return []

    def refresh(self, connection: Connection) -> set[int]:
        """Bring the indexes to what ``connection`` sees; return the ``seq`` of edits that changed since last time.

        Raises:
            FingerprintMismatchError: the store's vectors were made with another encoder.
        """
        revision = store_revision(connection)
        if revision == self.revision:
            return set()
        with self._lock:
            if revision <= self.revision:  # another thread has been further already
                return set()
            if not self.loaded:
                self._fill(connection)
                touched: set[int] = set()
            else:
                touched = self._catch_up(connection, self.revision)
            self.revision = revision
            return touched

    def rebuild(self, connection: Connection) -> None:
        """Fill both indexes anew from the store."""
        with self._lock:
            self._rebuild_vectors(connection)
            self._rebuild_subjects(connection)
            self.revision = store_revision(connection)
            self._saved_revision = -1

    def save(self, connection: Connection) -> bool:
        """Write the vector index beside the store, atomically; return whether there was a place and a need."""
        with self._lock:
            if self.path is None or self._index is None or self._saved_revision == self.revision:
                return False
            at = _changed_at(connection, self.revision)
            metadata = {"encoder": self._encoder.get().fingerprint, "namespace": self.namespace}
            self._index.save(self.path, {**metadata, "revision": self.revision, "changed_at": at})
            self._saved_revision = self.revision
            return True

    def expected_rows(self, connection: Connection) -> int:
        """How many vectors the index must hold."""
        total = select(func.coalesce(func.sum(edits.c.texts), 0)).where(*self._mine())
        return int(connection.execute(total).scalar_one())

    def sample(self, connection: Connection, count: int) -> Iterator[tuple[IdArray, FloatArray]]:
        """Keys and vectors ``[n, d]`` of ``count`` texts in force, spread over the namespace."""
        seqs = connection.execute(select(edits.c.seq).where(*self._mine()).order_by(edits.c.seq)).scalars().all()
        chosen = seqs[:: max(1, len(seqs) // count)]
        number = known_encoder(connection, self._encoder.get().fingerprint)
        yield from self._stored(connection, number, *self._mine(), edits.c.seq.in_(chosen))

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return (edits.c.namespace == self.namespace, CURRENT, _IN_FORCE)

    def _fill(self, connection: Connection) -> None:
        self._index = self._load(connection)
        if self._index is None:
            self._rebuild_vectors(connection)
        self._rebuild_subjects(connection)

    def _load(self, connection: Connection) -> BaseIndex | None:
        """The cached index, brought to the present; None when there is none to be trusted."""
        if self.path is None:
            return None
        try:
            manifest = read_manifest(self.path)
            revision = manifest.metadata.get("revision")
            if (
                manifest.kind != self._kind
                or manifest.metadata.get("namespace") != self.namespace
                or manifest.metadata.get("encoder") != self._encoder.get().fingerprint
                or not isinstance(revision, int)
                or manifest.metadata.get("changed_at") != _changed_at(connection, revision)
            ):
                return None
            index = load_index(self.path)
        except (OSError, VectorIndexError):
            return None
        self._index = index
        self._catch_up(connection, revision)
        self._saved_revision = revision
        return index if len(index) == self.expected_rows(connection) else None

    def _rebuild_vectors(self, connection: Connection) -> None:
        encoder = self._encoder.get()
        index = create_index(self._kind, encoder.dimension, **self._options)
        number = known_encoder(connection, encoder.fingerprint)
        for ids, matrix in self._stored(connection, number, *self._mine()):
            index.add(ids, matrix)
        self._check_complete(len(index), self.expected_rows(connection))
        self._index = index

    def _rebuild_subjects(self, connection: Connection) -> None:
        subjects = SubjectIndex()
        query = select(edits.c.seq, edits.c.subject).where(*self._mine(), edits.c.subject.is_not(None))
        subjects.add_many((row[0], row[1]) for row in connection.execute(query))
        self._subjects = subjects

    def _check_complete(self, found: int, expected: int) -> None:
        if found != expected:
            raise FingerprintMismatchError(
                f"namespace {self.namespace!r}: {expected - found} of {expected} texts have no vector of encoder "
                f"{self._encoder.name!r}; they were added with another encoder: open the memory with that one, or "
                "encode them anew with rebuild() (`memedit index rebuild`)"
            )

    def _catch_up(self, connection: Connection, since: int) -> set[int]:
        """Apply the changes after revision ``since``; return the ``seq`` of the edits they touched."""
        newer = (changes.c.namespace == self.namespace, changes.c.revision > since)
        log = select(changes.c.seq, changes.c.action).where(*newer).distinct()
        found = connection.execute(log).all()
        touched = {row[0] for row in found if row[0] is not None}
        forgotten = any(row[1] == FORGOTTEN for row in found)  # what was there can no longer be looked up
        if forgotten or len(touched) > max(1_000, _REBUILD_SHARE * self._size()):
            self._rebuild_vectors(connection)
            self._rebuild_subjects(connection)
            return touched
        for part in chunks(sorted(touched)):
            self._apply(connection, part)
        return touched

    def _apply(self, connection: Connection, seqs: Sequence[int]) -> None:
        """Bring some edits to their current version."""
        live = (*self._mine(), edits.c.seq.in_(seqs))
        found = connection.execute(select(edits.c.seq, edits.c.subject, edits.c.texts).where(*live)).all()
        self._check_complete(self._apply_vectors(connection, seqs, live), sum(row[2] for row in found))
        subjects = {row[0]: row[1] for row in found}
        for seq in seqs:
            subject = subjects.get(seq)
            if subject is None:
                self._subjects.remove(seq)
            else:
                self._subjects.add(seq, subject)

    def _apply_vectors(self, connection: Connection, seqs: Sequence[int], live: tuple[ColumnElement[bool], ...]) -> int:
        """Put the vectors of edits that are ``live`` in before the old ones of ``seqs`` go out; how many are in."""
        index = self.vectors
        widest = select(edits.c.seq, func.max(edits.c.texts)).where(edits.c.seq.in_(seqs)).group_by(edits.c.seq)
        stale = {seq << ORDINAL_BITS | i for seq, texts in connection.execute(widest) for i in range(texts)}
        number = known_encoder(connection, self._encoder.get().fingerprint)
        added = 0
        for ids, matrix in self._stored(connection, number, *live):
            index.add(ids, matrix)
            added += len(ids)
            stale.difference_update(ids.tolist())
        index.remove(np.fromiter(stale, dtype=np.int64, count=len(stale)))
        return added

    def _size(self) -> int:
        """How many rows a rebuilding would read."""
        return len(self.vectors)

    def _stored(
        self, connection: Connection, encoder: int | None, *conditions: ColumnElement[bool]
    ) -> Iterator[tuple[IdArray, FloatArray]]:
        """Keys and vectors of the edits that meet ``conditions``, a few thousand at a time."""
        width = 4 * self._encoder.get().dimension
        for rows in vector_rows(connection, encoder, *conditions):
            if any(len(row[1]) != width for row in rows):
                raise StoreCorruptError(
                    f"namespace {self.namespace!r}: a stored vector has not {width} bytes; see which edits with "
                    "verify() and encode them anew with rebuild() (`memedit index rebuild`)"
                )
            yield np.array([row[0] for row in rows], dtype=np.int64), join_vectors(row[1] for row in rows)


def _changed_at(connection: Connection, revision: int) -> int | None:
    """When the change ``revision`` was made: with its number, the identity of a state of the store."""
    return connection.execute(select(changes.c.at).where(changes.c.revision == revision)).scalar()


def _file_name(namespace: str) -> str:
    """A file name for any namespace: its plain characters for people, a hash for the rest."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", namespace)[:40]
    return f"{plain}-{hashlib.sha256(namespace.encode()).hexdigest()[:12]}"
