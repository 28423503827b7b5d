"""What the parts of :class:`EditMemory` share: the store, the encoder, the indexes."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memedit.encoders.base import Encoder
from memedit.errors import InputError, MemeditError
from memedit.index import INDEXES
from memedit.memory import reading
from memedit.memory.candidate_search import CandidateSearch
from memedit.memory.conflicts import ConflictScorer, RelationJudge
from memedit.memory.database import Database
from memedit.memory.encoding import EncoderSource
from memedit.memory.mutations import Mutations
from memedit.memory.pgvector_tables import KINDS, check_request, check_server
from memedit.memory.validation import check_namespace

_MANY_ROWS = 10_000


class MemoryCore:
    """Opens and closes the store. See :class:`EditMemory` for the arguments."""

    def __init__(
        self,
        url: str | Path = ":memory:",
        *,
        encoder: Encoder | str = "minilm",
        namespace: str = "default",
        index: str = "flat",
        index_options: Mapping[str, Any] | None = None,
        conflict_scorer: ConflictScorer | None = None,
        conflict_threshold: float | None = None,
        doubt_threshold: float | None = None,
        read_only: bool = False,
        timeout: float = 30.0,
        max_lag: float = 0.0,
    ) -> None:
        self._namespace = check_namespace(namespace)
        self._encoder = EncoderSource(encoder)
        if index not in INDEXES:
            INDEXES.get(index)  # says what there is
        if not 0.0 <= max_lag <= 3600.0:
            raise InputError(f"max_lag={max_lag} is outside 0..3600 seconds")
        if index in KINDS:
            check_request(url, index, index_options)
        self._database = Database(url, read_only=read_only, timeout=timeout, max_lag=max_lag)
        if index in KINDS:
            try:
                check_server(self._database, index)
            except BaseException:
                self._database.close()
                raise
        self._index_kind = index
        self._search = CandidateSearch(self._database, self._encoder, index, index_options or {})
        judge = RelationJudge(conflict_scorer, conflict_threshold, doubt_threshold, self._encoder.get)
        self._mutations = Mutations(self._database, self._encoder, judge)

    @property
    def encoder(self) -> Encoder:
        """The sentence encoder, loaded now if it was not yet."""
        return self._encoder.get()

    @property
    def namespace(self) -> str:
        """The namespace that methods work in unless told another."""
        return self._namespace

    @property
    def url(self) -> str:
        """Where the store is, without a password."""
        return self._database.url

    @property
    def revision(self) -> int:
        """Number of the newest committed change, by any process; rises with every change.

        With ``max_lag`` it is the newest this process knows of, which lags by no more than that.
        """
        watcher = self._database.watcher
        newest = None if watcher is None else watcher.newest()
        if newest is not None:
            return newest
        with self._database.read() as connection:
            return reading.store_revision(connection)

    def check_store(self) -> None:
        """Look whether changes can still be kept: whether the memory's file is where it was opened.

        Raises:
            StoreUnavailableError: it was deleted, moved or replaced.
        """
        self._database.check_file()

    def require_revision(self, revision: int) -> None:
        """Have look-ups from now on see the store at least at ``revision``, which another process was given.

        Only with ``max_lag`` can they be behind; then the next look-up asks the database. A no-op otherwise.

        Raises:
            InputError: the store has not come to this revision: it is another store's, or made up.
        """
        if revision <= self.revision:
            return
        with self._database.read() as connection:
            newest = reading.store_revision(connection)
        if revision > newest:
            raise InputError(f"revision {revision} does not exist yet; the store is at {newest}")
        if self._database.watcher is not None:
            self._database.watcher.note(newest)

    def namespaces(self) -> tuple[str, ...]:
        """Every namespace that has, or had, an edit."""
        with self._database.read() as connection:
            return reading.namespace_names(connection)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many edits each namespace has in each state."""
        with self._database.read() as connection:
            return reading.counts(connection)

    def save_index(self) -> None:
        """Write the vector indexes of the namespaces used so far beside the store, atomically.

        They are caches: without this, opening takes longer and nothing else changes. Closing does it after larger
        changes by this memory.

        Raises:
            VectorIndexError: they could not be written; the earlier files are untouched.
        """
        self._search.space(self._namespace)
        with self._database.read() as connection:
            self._search.save(connection)

    def close(self) -> None:
        """Close the store, saving the vector index when this memory has changed it by more than a little."""
        written = self._mutations.rows_written
        try:
            if written and any(space.outdated for space in self._search.loaded()):
                with self._database.read() as connection:
                    self._search.save(connection, only_loaded=True)
            elif written >= _MANY_ROWS and self._search.folder is not None:
                self.save_index()
        except MemeditError:
            pass  # a cache that cannot be written is made again from the store
        finally:
            self._mutations.rows_written = 0
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _space(self, namespace: str | None) -> str:
        return self._namespace if namespace is None else check_namespace(namespace)
