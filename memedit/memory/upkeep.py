"""Looking after the store: artefacts, settings, counts, checks, rebuilding, files in and out."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy import func, select

from memedit.encoders.base import Progress
from memedit.errors import InputError
from memedit.memory import annexes, checking, file_imports, leases, reading, renewal
from memedit.memory.actor import Actor
from memedit.memory.api_keys import ApiKeys
from memedit.memory.audit import AuditEntry, audit_entries
from memedit.memory.core import MemoryCore
from memedit.memory.doubts import read_doubts, settle_doubt
from memedit.memory.feedback import FeedbackBook
from memedit.memory.figures import FigureRing
from memedit.memory.formats import export_edits, read_drafts, write_edits
from memedit.memory.leases import Lease
from memedit.memory.migrations import recorded_version
from memedit.memory.planning import OnConflict, check_policy
from memedit.memory.quotas import Quotas
from memedit.memory.reports import ImportReport, MemoryStats, PossibleConflict, VerifyReport
from memedit.memory.request_log import RequestLog
from memedit.memory.requests import AnsweredRequests
from memedit.memory.responses import StoredResponses
from memedit.memory.schema import edits, encoders
from memedit.memory.validation import check_text, check_time
from memedit.types import EditState


class MemoryUpkeep(MemoryCore):
    """The part of :class:`EditMemory` that is not about single edits."""

    @property
    def keys(self) -> ApiKeys:
        """The API keys with which clients of a server use this memory."""
        return ApiKeys(self._database)

    @property
    def quotas(self) -> Quotas:
        """The limits of namespaces: edits, requests and tokens a minute."""
        return Quotas(self._database)

    @property
    def request_log(self) -> RequestLog:
        """Requests that servers of this memory answered, where they were told to keep them."""
        return RequestLog(self._database)

    @property
    def feedback(self) -> FeedbackBook:
        """What people said of edits that fired, or did not."""
        return FeedbackBook(self._database)

    @property
    def figures(self) -> FigureRing:
        """What servers of this memory did, minute by minute."""
        return FigureRing(self._database)

    @property
    def responses(self) -> StoredResponses:
        """Answers that their askers can read again and go on from."""
        return StoredResponses(self._database)

    @property
    def requests(self) -> AnsweredRequests:
        """Requests that were answered already, by idempotency key."""
        return AnsweredRequests(self._database)

    def as_actor(self, actor: Actor) -> AbstractContextManager[None]:
        """Make the changes inside on behalf of ``actor``: :meth:`audit` shows it. Holds for this thread or task."""
        return self._database.acting.as_actor(actor)

    def audit(
        self,
        *,
        namespaces: Sequence[str] | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Return who changed what, newest first.

        Args:
            namespaces: only changes in these; None is everywhere, changes of keys included.
            actor: only changes by this one.
            before: only revisions below this one: the last one seen gives the next page.
            limit: at most so many.
        """
        if limit < 1:
            raise InputError(f"limit={limit} is below 1")
        with self._database.read() as connection:
            return audit_entries(connection, namespaces=namespaces, actor=actor, before=before, limit=limit)

    def possible_conflicts(self, id: str | None = None, *, namespace: str | None = None) -> list[PossibleConflict]:
        """Return the pairs of edits that perhaps contradict each other, or those of one edit; the likeliest first.

        Both edits stay in force until :meth:`settle_conflict` is told which it is, or one of them is withdrawn.

        Raises:
            EditNotFoundError: no edit with this id in the namespace.
        """
        with self._database.read() as connection:
            return read_doubts(connection, self._space(namespace), id)

    def settle_conflict(self, id: str, other: str, *, same: bool, namespace: str | None = None) -> PossibleConflict:
        """Say of a possible conflict whether both edits are one question; return both as they are then.

        Args:
            id: one of the two edits, ``other`` the other, in either order.
            other: see ``id``.
            same: they are: the older one is withdrawn for the newer. False: they are two facts. Each then blocks the
                other's prompt, so that neither fires on it and they never count as contradictory again.
            namespace: another namespace than the memory's own.

        Raises:
            EditNotFoundError: an id is not in the namespace.
            InputError: the two are no possible conflict.
            FieldError: told apart, but the prompt of one is a paraphrase of the other.
        """
        return settle_doubt(self._database, self._space(namespace), id, other, same=same)

    def put_artefacts(
        self, kind: str, fingerprint: str, blobs: Mapping[str, bytes], *, namespace: str | None = None
    ) -> None:
        """Store what an adapter or scope prepared for edits, by edit id, in one transaction.

        Artefacts are dropped when the texts of their edit change.

        Raises:
            EditNotFoundError: an id is not in the namespace.
            InputError: a blob is not bytes.
        """
        check_text(kind, "kind"), check_text(fingerprint, "fingerprint")
        annexes.put_artefacts(self._database, self._space(namespace), kind, fingerprint, blobs)

    def get_artefacts(
        self, kind: str, fingerprint: str, ids: Sequence[str], *, namespace: str | None = None
    ) -> dict[str, bytes]:
        """Return the artefacts of this kind and fingerprint by edit id; edits that have none are left out."""
        with self._database.read() as connection:
            return annexes.get_artefacts(connection, self._space(namespace), kind, fingerprint, ids)

    def get_setting(self, key: str, *, namespace: str | None = None) -> str | None:
        """Return a durable setting of the namespace, None when it is not set."""
        with self._database.read() as connection:
            return annexes.get_setting(connection, self._space(namespace), key)

    def set_setting(self, key: str, value: str | None, *, namespace: str | None = None) -> None:
        """Set a durable setting of the namespace (a calibrated threshold, say); None removes it."""
        check_text(key, "key")
        if value is not None:
            check_text(value, "value", blank=True)
        annexes.set_setting(self._database, self._space(namespace), key, value)

    def set_states(
        self, ids: Sequence[str], state: EditState | str, *, link: str | None = None, namespace: str | None = None
    ) -> None:
        """Move edits to pending, active or consolidated in one transaction.

        Args:
            ids: the edits; those in the state already are left alone.
            state: where to.
            link: what the change is owed to (the version an edit was consolidated into); it stands in the history.
            namespace: another namespace than the memory's own.

        Raises:
            EditNotFoundError: an id is not in the namespace.
            InputError: no such state, retired, or one of the edits is withdrawn.
        """
        self._mutations.move(ids, self._space(namespace), state, link)

    def acquire_lease(self, name: str, owner: str, seconds: float, *, namespace: str | None = None) -> bool:
        """Take or prolong the lease ``name`` for ``seconds``; return False while another owner holds it.

        One process at a time, on whatever machine, does what a lease stands for. A holder that dies loses it when its
        time is up. Leases are no change of the memory: its revision stays.
        """
        check_text(name, "name"), check_text(owner, "owner")
        if seconds <= 0:
            raise InputError(f"seconds={seconds} of a lease must be above 0")
        return leases.acquire(self._database, self._space(namespace), name, owner, seconds)

    def release_lease(self, name: str, owner: str, *, namespace: str | None = None) -> None:
        """Give a lease back; one that ``owner`` does not hold is left alone."""
        leases.release(self._database, self._space(namespace), name, owner)

    def lease(self, name: str, *, namespace: str | None = None) -> Lease | None:
        """Return who holds a lease and until when; None when nobody does."""
        with self._database.read() as connection:
            return leases.holder(connection, self._space(namespace), name)

    def export(
        self, path: str | Path, *, format: str = "jsonl", state: str | None = None, namespace: str | None = None
    ) -> int:
        """Write the edits that are not withdrawn to a file, atomically; return how many.

        Args:
            path: the file.
            format: "jsonl" is our own and loses nothing but times of storing and past versions; counterfact, zsre,
                knowedit hold only prompt, target, subject and ground truth; mem0 carries the rest as metadata.
            state: only this state (pending, active, consolidated).
            namespace: another namespace than the memory's own.

        Raises:
            UnknownNameError: no such format.
            StoreError: the file cannot be written; an earlier one is untouched.
        """
        return export_edits(self._database, self._space(namespace), Path(path), format, state)

    def export_to(
        self, file: IO[str], *, format: str = "jsonl", state: str | None = None, namespace: str | None = None
    ) -> int:
        """Write what :meth:`export` writes to an open text file; return how many edits.

        Raises:
            UnknownNameError: no such format.
            InputError: withdrawn edits are asked for.
        """
        return write_edits(self._database, self._space(namespace), file, format, state)

    def import_file(
        self,
        path: str | Path,
        *,
        format: str = "auto",
        on_conflict: OnConflict = "error",
        paraphrases: bool = False,
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        skip_invalid: bool = False,
        dry_run: bool = False,
        namespace: str | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Add the edits of a file in one transaction: all of them, or none.

        Args:
            path: JSONL, a JSON document, a table (CSV, TSV) with a header row, or Markdown; also gzip or Zstandard.
            format: jsonl (our own), counterfact (ROME's and MEMIT's requests too), zsre, knowedit, mem0, openai,
                alpaca, or qa (questions and answers by their usual names); "auto" looks at the rows.
            on_conflict: as for :meth:`EditMemory.add_many`; "supersede" lets the later row win.
            paraphrases: take over the rephrasings of published data sets; they are meant as test questions, so by
                default they are left out.
            columns: what the file calls the fields of an edit, as ``{"prompt": "Question", "target": "Reply"}``.
            encoding: of the file; None goes by byte order mark, then UTF-8; a table's is guessed where it is neither,
                and the report's ``notes`` say so.
            skip_invalid: go on where a row cannot be used. Such rows are in the report, and in a new file beside this
                one, in its own form, to be mended and imported.
            dry_run: write nothing; the report says what would happen, with all the rows and contradictions that would
                stop the import.
            namespace: another namespace than the memory's own.
            progress: called with (texts encoded, texts to encode).

        Raises:
            DatasetError: a row cannot be used; names file, row and field. Or none of them can.
            ConflictError: a row contradicts a live edit or an earlier row and ``on_conflict`` is "error".
            MissingExtraError: the file is packed in a way that an optional package is needed for.
            StoreError: it could not be written; nothing was.
        """
        space, policy = self._space(namespace), check_policy(on_conflict)
        found = read_drafts(
            Path(path), format, paraphrases, columns=columns, encoding=encoding, skip_invalid=skip_invalid or dry_run
        )
        return file_imports.add_file(self._mutations, space, policy, found, dry_run=dry_run, progress=progress)

    def stats(self, *, namespace: str | None = None) -> MemoryStats:
        """Count what a namespace holds. Loads neither encoder nor index."""
        space = self._space(namespace)
        with self._database.read() as connection:
            mine = edits.c.namespace == space
            by_state = select(edits.c.state, func.count()).where(mine, reading.CURRENT).group_by(edits.c.state)
            texts = select(func.coalesce(func.sum(edits.c.texts), 0)).where(mine, reading.CURRENT)
            encoder = connection.execute(select(encoders).order_by(encoders.c.id.desc()).limit(1)).first()
            return MemoryStats(
                namespace=space,
                edits={row[0]: row[1] for row in connection.execute(by_state)},
                versions=connection.execute(select(func.count()).select_from(edits).where(mine)).scalar_one(),
                texts=connection.execute(texts).scalar_one(),
                revision=reading.store_revision(connection),
                namespaces=reading.namespace_names(connection),
                encoder=None if encoder is None else encoder.name,
                dimension=None if encoder is None else encoder.dimension,
                index_kind=self._index_kind,
                index_rows=self._search.space(space).count_rows(connection),
                database_bytes=self._database.size(connection),
                schema_version=recorded_version(connection),
            )

    def verify(self, *, namespace: str | None = None) -> VerifyReport:
        """Check the database, the namespace's edits and vectors, and that its index agrees with them."""
        name = self._space(namespace)
        self._search.prepare(name)
        with self._database.read() as connection:
            problems = checking.store_problems(connection)
            count, found = checking.edit_problems(connection, name)
            vectors, wrong = checking.vector_problems(connection, name)
            rows, off = checking.index_problems(connection, self._search.space(name)) if count else (0, [])
        return VerifyReport(count, vectors, rows, (*problems, *found, *wrong, *off))

    def encode_missing(self, *, namespace: str | None = None, progress: Progress | None = None) -> int:
        """Encode the texts that have no vector of the memory's encoder; return how many edits had such texts.

        Raises:
            StoreError: it could not be written; the steps before stay done.
        """
        return renewal.encode_missing(self._database, self._encoder, self._space(namespace), progress)

    def rebuild(self, *, namespace: str | None = None, progress: Progress | None = None) -> int:
        """Make the vector index anew from the store and save it; return its rows.

        Texts whose vectors are missing or were made by another encoder than the memory's are encoded first.

        Raises:
            StoreError, VectorIndexError: something could not be written; what was there is untouched.
        """
        name = self._space(namespace)
        self.encode_missing(namespace=name, progress=progress)
        return self._search.rebuild(name)

    def vacuum(self, *, forget_before: datetime | None = None) -> None:
        """Give unused space back to the system.

        Args:
            forget_before: also erase for good, in every namespace, what was withdrawn or replaced before this time:
                withdrawn edits and past versions; :meth:`as_of` and :meth:`history` no longer know them.
        """
        moment = check_time(forget_before, "forget_before")
        if moment is not None:
            renewal.forget(self._database, moment)
        self._database.compact()
