"""Finding the edits that a query may fall under."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from sqlalchemy import Connection, select

from memedit.errors import InputError, StoreUnavailableError
from memedit.memory.encoding import EncoderSource, join_vectors
from memedit.memory.normal import nearest_spelling
from memedit.memory.reading import chunks, rows_by_seq
from memedit.memory.rows import IN_FORCE, row_edit
from memedit.memory.schema import ORDINAL_BITS, vectors
from memedit.memory.search.database_space import DatabaseSpace
from memedit.memory.search.namespace_index import NamespaceIndex
from memedit.memory.search.pgvector_tables import KINDS, NeighboursMissingError, make_table
from memedit.memory.store.database import Database
from memedit.types import Candidate, Edit, Encoding, FloatArray

_MAX_SUBJECT_EDITS = 2_000
_MAX_LINKED = 256
_CACHED_EDITS = 50_000
_SHORT_WAIT = 0.002  # seconds; an ordinary look-up holds the lock for less

T = TypeVar("T")
Span = tuple[int, int]


class LazyRead:
    """A read transaction that begins when it is first asked for: a look-up that needs no database opens none."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stack = ExitStack()
        self._connection: Connection | None = None

    def __call__(self) -> Connection:
        """The connection, inside the transaction."""
        if self._connection is None:
            self._connection = self._stack.enter_context(self._database.read())
        return self._connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)


class CandidateSearch:
    """The indexes of every namespace, and candidates from them.

    Args:
        database: the store.
        encoder: the memory's encoder.
        kind: registered name of the vector index; ``options`` are its own.
    """

    def __init__(self, database: Database, encoder: EncoderSource, kind: str, options: Mapping[str, Any]) -> None:
        self._database, self._encoder = database, encoder
        self._kind, self._options = kind, options
        path = database.path
        self.folder: Path | None = None if path is None else path.with_name(path.name + ".index")
        self._in_database = kind in KINDS
        self._spaces: dict[str, NamespaceIndex] = {}
        self._edits: dict[str, dict[int, Edit]] = {}
        self._lock = threading.Lock()
        self._reading = threading.RLock()  # one look-up at a time: cache and indexes are of one moment

    def space(self, namespace: str) -> NamespaceIndex:
        """The indexes of a namespace."""
        with self._lock:
            if namespace not in self._spaces:
                self._spaces[namespace] = (
                    DatabaseSpace(namespace, self._encoder, self._kind)
                    if self._in_database
                    else NamespaceIndex(namespace, self._encoder, self._kind, self._options, self.folder)
                )
                self._edits[namespace] = {}
            return self._spaces[namespace]

    def loaded(self) -> list[NamespaceIndex]:
        """Namespaces whose indexes are in memory."""
        return [space for space in list(self._spaces.values()) if space.loaded]

    def rebuild(self, namespace: str) -> int:
        """Make the vector index of a namespace anew from the store, and save it; return its rows."""
        space = self.space(namespace)
        self.prepare(namespace)
        with self._database.write() if self._in_database else self._database.read() as connection:
            space.rebuild(connection)
            space.save(connection)
            return len(space.searcher(lambda: connection))

    def prepare(self, namespace: str) -> None:
        """Make what the index keeps in the database, unless it is there, may not be made, or nothing is kept there."""
        space = self.space(namespace)
        if isinstance(space, DatabaseSpace) and not self._database.read_only:
            try:
                with self._database.read() as connection:
                    space.located(connection)
            except NeighboursMissingError:
                make_table(self._database, self._encoder.get(), self._kind)

    def save(self, connection: Connection, *, only_loaded: bool = False) -> None:
        """Write the vector indexes of the namespaces in use beside the store."""
        if self.folder is None:
            return
        for space in self.loaded() if only_loaded else list(self._spaces.values()):
            with self._reading:
                if not only_loaded:
                    for seq in space.refresh(connection):
                        self._edits[space.namespace].pop(seq, None)
                space.save(connection)

    def candidates(self, encodings: Sequence[Encoding], namespace: str, k: int, at: datetime) -> list[list[Candidate]]:
        """See :meth:`EditMemory.candidates`."""
        if k < 1:
            raise InputError(f"k={k} is below 1")
        if not encodings:
            return []
        queries = np.stack([encoding.vector for encoding in encodings]).astype(np.float32, copy=False)

        def find(look: "_Snapshot") -> list[list[Candidate]]:
            rows = look.neighbours(queries)
            spans = [look.spans(encoding.text) for encoding in encodings]
            look.add_subjects(queries, rows, spans)
            return [
                _as_spelled(
                    encoding.text,
                    [
                        Candidate(look.known[seq], float(score), row_spans.get(seq))
                        for seq, score in sorted(row.items(), key=lambda item: (-item[1], item[0]))
                    ],
                )
                for encoding, row, row_spans in zip(encodings, rows, spans, strict=True)
            ]

        return self._looking(find, namespace, k, at)

    def nearest(self, vector: FloatArray, namespace: str, k: int, at: datetime) -> list[Candidate]:
        """The ``k`` edits in force nearest to one unit vector ``[d]``, by cosine."""

        def find(look: "_Snapshot") -> list[Candidate]:
            best = sorted(look.neighbours(vector[None, :])[0].items(), key=lambda item: (-item[1], item[0]))[:k]
            return [Candidate(look.known[seq], float(score), None) for seq, score in best]

        return self._looking(find, namespace, k, at)

    def names_subject(self, text: str, namespace: str) -> bool:
        """Whether a stored edit's subject occurs in ``text``; True also when that is not known at once."""
        space = self.space(namespace)
        if not space.loaded or not self._reading.acquire(timeout=_SHORT_WAIT):
            return True
        try:
            return bool(space.subjects.find(text))
        finally:
            self._reading.release()

    def are_subjects(self, names: Sequence[str], namespace: str) -> list[bool]:
        """See :meth:`EditMemory.are_subjects`."""
        subjects = self.space(namespace).subjects
        return [bool(subjects.named(name)) for name in names]

    def about(
        self, names: Sequence[str], vector: FloatArray, namespace: str, k: int, at: datetime
    ) -> list[list[Candidate]]:
        """See :meth:`EditMemory.about`."""

        def find(look: "_Snapshot") -> list[list[Candidate]]:
            return [look.about(name, vector) for name in names]

        return self._looking(find, namespace, k, at) if names else []

    def _looking(self, find: "Callable[[_Snapshot], T]", namespace: str, k: int, at: datetime) -> T:
        """Run one look-up; once more when the database server was restarted under it, which nothing has changed."""
        try:
            with self._reading, LazyRead(self._database) as connection:
                return find(self._look(connection, namespace, k, at))
        except StoreUnavailableError:
            pass
        except NeighboursMissingError:
            make_table(self._database, self._encoder.get(), self._kind)
        with self._reading, LazyRead(self._database) as connection:
            return find(self._look(connection, namespace, k, at))

    def _look(self, connection: LazyRead, namespace: str, k: int, at: datetime) -> "_Snapshot":
        """Bring indexes and cache to what ``connection`` sees, unless they are known to be there already."""
        space = self.space(namespace)
        known = self._edits[namespace]
        watcher = self._database.watcher
        newest = None if watcher is None else watcher.newest()
        # what searches in the database asks it anyway, and sees it as it is now
        if self._in_database or newest is None or not space.loaded or space.revision < newest:
            for seq in space.refresh(connection()):
                known.pop(seq, None)
        if len(known) > _CACHED_EDITS:
            known.clear()
        return _Snapshot(connection, space, known, k, at)


def _as_spelled(text: str, found: list[Candidate]) -> list[Candidate]:
    """Leave out edits that another, whose prompt differs only by its accents, fits better as the query is spelled."""
    meant = nearest_spelling(text, [candidate.edit.prompt for candidate in found])
    return [candidate for candidate, kept in zip(found, meant, strict=True) if kept]


@dataclass(slots=True)
class _Snapshot:
    """One look-up: what the store holds at one moment. ``known`` is the cache of edits by ``seq``."""

    connection: LazyRead
    space: NamespaceIndex
    known: dict[int, Edit]
    k: int
    at: datetime

    def neighbours(self, queries: FloatArray) -> list[dict[int, float]]:
        """Per query ``[B, d]`` the best scores of the ``k`` nearest edits in force: looks further while too few are."""
        index = self.space.searcher(self.connection)
        rows: list[dict[int, float]] = [{} for _ in queries]
        unfilled = list(range(len(queries)))
        fetch = 2 * self.k
        while unfilled:
            scores, ids = index.search(queries[unfilled], fetch)
            seqs = ids >> ORDINAL_BITS
            self._know({int(seq) for seq in np.unique(seqs) if seq >= 0})
            for i, row in enumerate(unfilled):
                rows[row] = self._best(seqs[i].tolist(), scores[i].tolist())
            unfilled = [row for i, row in enumerate(unfilled) if len(rows[row]) < self.k and ids[i, -1] >= 0]
            fetch *= 8
        return rows

    def spans(self, text: str) -> dict[int, Span]:
        """The first place where each edit's subject occurs in ``text``; of very many edits, the newest."""
        found: dict[int, Span] = {}
        for match in self.space.subjects.find(text):
            found.setdefault(match.id, (match.start, match.end))
        if len(found) > _MAX_SUBJECT_EDITS:
            found = {seq: found[seq] for seq in sorted(found, reverse=True)[:_MAX_SUBJECT_EDITS]}
        return found

    def add_subjects(self, queries: FloatArray, rows: list[dict[int, float]], spans: list[dict[int, Span]]) -> None:
        """Add to each row the edits whose subject occurs in its query, best cosines first, at most ``max(32, 4k)``."""
        wanted = [[seq for seq in found if seq not in row] for row, found in zip(rows, spans, strict=True)]
        everything = {seq for row in wanted for seq in row}
        if not everything:
            return
        self._know(everything)
        matrices = self._matrices(everything)
        for query, row, seqs in zip(queries, rows, wanted, strict=True):
            live = [seq for seq in seqs if seq in matrices and in_force(self.known[seq], self.at)]
            scored = sorted(((float((matrices[seq] @ query).max()), seq) for seq in live), reverse=True)
            row.update((seq, score) for score, seq in scored[: max(32, 4 * self.k)])

    def about(self, name: str, query: FloatArray) -> list[Candidate]:
        """The ``k`` edits in force about ``name`` that are nearest to ``query`` ``[d]``."""
        seqs = sorted(self.space.subjects.named(name), reverse=True)[:_MAX_LINKED]
        self._know(set(seqs))
        live = {seq for seq in seqs if seq in self.known and in_force(self.known[seq], self.at)}
        matrices = self._matrices(live)
        scored = sorted(((float((matrix @ query).max()), seq) for seq, matrix in matrices.items()), reverse=True)
        return [Candidate(self.known[seq], score, None) for score, seq in scored[: self.k]]

    def _best(self, seqs: list[int], scores: list[float]) -> dict[int, float]:
        best: dict[int, float] = {}
        for seq, score in zip(seqs, scores, strict=True):
            if seq >= 0 and seq not in best and seq in self.known and in_force(self.known[seq], self.at):
                best[seq] = score
                if len(best) == self.k:
                    break
        return best

    def _know(self, seqs: set[int]) -> None:
        """Read the edits that are not in the cache yet."""
        missing = [seq for seq in seqs if seq not in self.known]
        if missing:
            found = rows_by_seq(self.connection(), missing)
            self.known.update((seq, row_edit(row)) for seq, row in found.items())

    def _matrices(self, seqs: set[int]) -> dict[int, FloatArray]:
        """Vectors ``[texts, d]`` of these edits."""
        texts = {seq: 1 + len(self.known[seq].paraphrases) for seq in seqs if seq in self.known}
        keys = [seq << ORDINAL_BITS | ordinal for seq, count in texts.items() for ordinal in range(count)]
        blobs: dict[int, list[bytes]] = {}
        for part in chunks(keys):
            query = select(vectors.c.key, vectors.c.vector).where(vectors.c.key.in_(part))
            for key, blob in self.connection().execute(query):
                blobs.setdefault(key >> ORDINAL_BITS, []).append(blob)
        return {seq: join_vectors(parts) for seq, parts in blobs.items()}


def in_force(edit: Edit, at: datetime) -> bool:
    """Whether an edit is active or consolidated, and holds in the world at ``at``."""
    return (
        edit.state.value in IN_FORCE
        and (edit.valid_at is None or edit.valid_at <= at)
        and (edit.invalid_at is None or edit.invalid_at > at)
    )
