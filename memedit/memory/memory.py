"""The edit memory: what the rest of memedit, and its users, see of the store."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sqlalchemy import func, select

from memedit.encoders.base import Encoder, Progress
from memedit.errors import EditChangedError, InputError, MemeditError
from memedit.index import INDEXES
from memedit.memory import artefacts, reading, upkeep
from memedit.memory.audit import AuditEntry, audit_entries
from memedit.memory.conflicts import ConflictScorer, RelationJudge
from memedit.memory.doubts import read_doubts, settle_doubt
from memedit.memory.encoding import EncoderSource
from memedit.memory.formats import export_edits, read_drafts, write_edits
from memedit.memory.formats.adding import add_file
from memedit.memory.migrations import recorded_version
from memedit.memory.mutations import Mutations
from memedit.memory.planning import OnConflict, check_policy
from memedit.memory.reports import AddReport, Change, ImportReport, MemoryStats, PossibleConflict, VerifyReport
from memedit.memory.rows import blocked, paraphrased, row_edit
from memedit.memory.schema import edits, encoders
from memedit.memory.search.candidate_search import CandidateSearch
from memedit.memory.search.pgvector_tables import KINDS, check_request, check_server
from memedit.memory.service import leases
from memedit.memory.service.answers import AnsweredRequests, StoredResponses
from memedit.memory.service.api_keys import ApiKeys
from memedit.memory.service.feedback import FeedbackBook
from memedit.memory.service.leases import Lease
from memedit.memory.service.quotas import Quotas
from memedit.memory.service.request_log import FigureRing, RequestLog
from memedit.memory.store.actor import Actor
from memedit.memory.store.database import Database
from memedit.memory.validation import check_namespace, check_text, check_time
from memedit.types import Candidate, Edit, EditDraft, EditKind, EditState, Encoding, FloatArray

# aliases, because inside the class ``list`` is the method
Edits = list[Edit]
Scored = list[tuple[Edit, float]]
Candidates = list[list[Candidate]]
History = list[Change]
Flags = list[bool]
AuditEntries = list[AuditEntry]
Doubts = list[PossibleConflict]

_MANY_ROWS = 10_000


class EditMemory:
    """A durable memory of edits: versions, contradictions, provenance, and look-up by meaning and by subject.

    The SQL store is the truth, with every text's vector in it; the vector index is a cache. A change that has returned
    has reached the disk, and the next look-up sees it, in this process and in every other that has the store open.
    Namespaces never see each other. Safe to use from several threads.

    Args:
        url: path of a SQLite file (made when absent), ``":memory:"``, or the ``postgresql://`` URL of a database.
        encoder: a sentence encoder or the name of one, which is loaded when it is first needed.
        namespace: the namespace that methods work in unless told another.
        index: registered name of the vector index (flat, exact, hnsw, ivf ...); ``index_options`` are its own.
            pgvector and pgvector-hnsw search inside a PostgreSQL database that has the extension.
        conflict_scorer: judges whether two edits about one subject ask the same. At or above ``conflict_threshold``
            they surely do and contradict each other; from ``doubt_threshold`` on they perhaps do, and the pair is kept
            for :meth:`possible_conflicts`. Default: the trained scope where one ships for the encoder, else
            :class:`MaskedPromptScorer`; the thresholds are the scorer's own.
        read_only: refuse changes; a file that does not exist is not made.
        timeout: seconds to wait for another process's write lock, and for a database server that is away.
        max_lag: PostgreSQL only: seconds by which look-ups may lag behind changes made by other processes (never
            behind this one's own). Above 0 the memory listens for changes, and a look-up asks the database only when
            there are any, or when nothing was heard for so long. 0 asks at every look-up.

    Raises:
        StoreError: the store cannot be opened; the subclass says why.
        InputError: an argument cannot be used.
        VectorIndexError: the database server lacks the extension that the index needs.
    """

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

    def add(
        self,
        prompt: str,
        target: str,
        *,
        subject: str | None = None,
        paraphrases: Sequence[str] = (),
        blocks: Sequence[str] = (),
        ground_truth: str | None = None,
        kind: EditKind | str = EditKind.FACT,
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        valid_at: datetime | None = None,
        invalid_at: datetime | None = None,
        namespace: str | None = None,
        on_conflict: OnConflict = "error",
    ) -> Edit:
        """Store one edit and put it in force; adding the same edit again returns the first.

        Args:
            prompt: what is asked, verbatim; ``target`` is the answer from now on.
            subject: whom or what it is about; found in the prompt when absent.
            paraphrases: other wordings of the prompt that must match too.
            blocks: texts on which it must stay silent.
            ground_truth: the model's old or wrong answer, kept for evaluation.
            kind: fact, correction, refusal, long-form or statement.
            metadata: JSON-able mapping; ``source`` says where the edit comes from.
            valid_at: from when it holds in the world, ``invalid_at`` until when (timezone-aware).
            namespace: another namespace than the memory's own.
            on_conflict: what to do when it contradicts an edit in force (same prompt, or same subject and relation,
                with another target, over a common time): "error", "supersede" (withdraw the old one in the same
                transaction) or "keep" both.

        Raises:
            InputError: a field cannot be used.
            ConflictError: it contradicts a live edit and ``on_conflict`` is "error".
            StoreError: it could not be written; nothing was.
        """
        draft = {
            "prompt": prompt,
            "target": target,
            "subject": subject,
            "paraphrases": paraphrases,
            "blocks": blocks,
            "ground_truth": ground_truth,
            "kind": kind,
            "metadata": metadata,
            "source": source,
            "valid_at": valid_at,
            "invalid_at": invalid_at,
        }
        report = self._mutations.add_many([draft], self._space(namespace), check_policy(on_conflict), describe=_nothing)
        return self.get(report.ids[0], namespace=namespace)

    def add_statement(
        self,
        text: str,
        *,
        subject: str | None = None,
        namespace: str | None = None,
        on_conflict: OnConflict = "error",
        **fields: Any,
    ) -> Edit:
        """Store what a sentence says, such as "The mayor of Tolburia is Ana Brill", and put it in force.

        The edit's prompt is the sentence; its subject and its target are found in it. A note about the user ("Allergic
        to nuts") has no subject. With an encoder that no tagger fits, the target is the whole sentence.

        Args:
            text: the sentence.
            subject: whom or what it is about, in place of what is found.
            namespace: another namespace than the memory's own.
            on_conflict: as for :meth:`add`.
            fields: others of :meth:`add` (``metadata``, ``source``, ``paraphrases``, ``valid_at`` ...).

        Raises:
            InputError: the sentence cannot be split, or a field cannot be used.
            ConflictError, StoreError: as for :meth:`add`.
        """
        kind = EditKind.STATEMENT
        return self.add(text, text, subject=subject, kind=kind, namespace=namespace, on_conflict=on_conflict, **fields)

    def add_many(
        self,
        drafts: Iterable[EditDraft | Mapping[str, Any]],
        *,
        namespace: str | None = None,
        on_conflict: OnConflict = "error",
        vectors: FloatArray | None = None,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> AddReport:
        """Store many edits in one transaction: all of them, or none when one is refused.

        Rows are taken in order, as if added one by one, so a later row may duplicate or contradict an earlier one.

        Args:
            drafts: :class:`EditDraft` or mappings of its fields.
            namespace: another namespace than the memory's own.
            on_conflict: as for :meth:`add`; "supersede" lets the later of two rows win.
            vectors: ready-made vectors ``[t, d]`` of this memory's encoder, one for each prompt followed by those of
                its paraphrases; encoded here when absent.
            progress: called with (texts encoded, texts to encode).
            dry_run: work out the report and write nothing; the ids of new edits are then nobody's.

        Raises:
            InputError: a row cannot be used; names the row and the field.
            ConflictError: a row contradicts a live edit or an earlier row and ``on_conflict`` is "error".
            StoreError: it could not be written; nothing was.
        """
        return self._mutations.add_many(
            drafts,
            self._space(namespace),
            check_policy(on_conflict),
            vectors=vectors,
            progress=progress,
            dry_run=dry_run,
        )

    def get(self, id: str, namespace: str | None = None) -> Edit:
        """Return the current version of an edit, withdrawn or not.

        Raises:
            EditNotFoundError: no edit with this id in the namespace.
        """
        return self.get_many([id], namespace=namespace)[0]

    def get_many(self, ids: Sequence[str], *, namespace: str | None = None) -> Edits:
        """Return the current versions of edits, in the order asked for.

        Raises:
            EditNotFoundError: an id is not in the namespace.
        """
        with self._database.read() as connection:
            found = reading.current_rows(connection, self._space(namespace), ids)
        return [row_edit(found[edit_id]) for edit_id in ids]

    def known(self, ids: Sequence[str], *, namespace: str | None = None) -> Edits:
        """Return the current versions of those of the edits that are in the namespace, in no order."""
        with self._database.read() as connection:
            return [row_edit(row) for row in reading.rows_of(connection, self._space(namespace), ids).values()]

    def list(
        self,
        *,
        state: EditState | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
        after: str | None = None,
        order: str = "added",
        namespace: str | None = None,
    ) -> Edits:
        """Return edits in the order they were first added, or another.

        Args:
            state: only this state; None is every edit not withdrawn, "all" every edit.
            metadata: only edits whose metadata has these values under these keys.
            limit: at most so many, from ``offset`` on.
            after: only edits that come later, in this order, than the one with this id.
            order: added, changed (when an edit last was), prompt, target or subject; with "-" in front the other way
                round.
            namespace: another namespace than the memory's own.
        """
        _check_page(limit, offset)
        space = self._space(namespace)
        with self._database.read() as connection:
            return reading.list_edits(
                connection, space, state=state, metadata=metadata, limit=limit, offset=offset, after=after, order=order
            )

    def count(
        self,
        *,
        state: EditState | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        namespace: str | None = None,
    ) -> int:
        """Count the edits that :meth:`list` gives."""
        with self._database.read() as connection:
            return reading.count_edits(connection, self._space(namespace), state=state, metadata=metadata)

    def search(self, text: str, k: int = 10, mode: str = "text", *, namespace: str | None = None) -> Scored:
        """Return the ``k`` best edits for ``text`` with scores, best first.

        Args:
            text: words (mode "text": every word occurs in the edit, ignoring case and diacritics; the score is how
                much of the edit the words make up) or a question (mode "semantic": cosine in [-1, 1]).
            k: how many at most.
            mode: "text" needs no encoder; "semantic" does, and finds only edits in force.
            namespace: another namespace than the memory's own.
        """
        _check_page(k, 0)
        space = self._space(namespace)
        if mode == "semantic":
            found = self._search.nearest(self.encoder.encode([text])[0], space, k, datetime.now(UTC))
            return [(candidate.edit, candidate.similarity) for candidate in found]
        if mode != "text":
            raise InputError(f"mode={mode!r} is neither 'text' nor 'semantic'")
        with self._database.read() as connection:
            return reading.search_text(connection, space, text, k)

    def candidates(
        self,
        encodings: Sequence[Encoding],
        *,
        k: int = 8,
        namespace: str | None = None,
        at: datetime | None = None,
    ) -> Candidates:
        """Return, for each encoded query, the edits it may fall under, nearest first.

        These are the ``k`` edits whose prompt or a paraphrase is nearest by cosine, and the edits whose subject stands
        in the query (of these the nearest ``max(32, 4k)``). Only edits in force: active or
        consolidated, and valid at ``at`` (default: now). Of edits whose prompts differ only by accents, those
        spelled as the query is.

        Raises:
            FingerprintMismatchError: the store's vectors were made with another encoder; see :meth:`rebuild`.
        """
        when = check_time(at, "at") or datetime.now(UTC)
        return self._search.candidates(encodings, self._space(namespace), k, when)

    def names_subject(self, text: str, *, namespace: str | None = None) -> bool:
        """Guess at once whether an edit is likely to apply to ``text``: whether one's subject occurs in it.

        Neither encodes nor asks the database. True also when nothing is known yet. :meth:`candidates` decides.
        """
        return self._search.names_subject(text, self._space(namespace))

    def are_subjects(self, names: Sequence[str], *, namespace: str | None = None) -> Flags:
        """Say of each name whether an edit in the namespace has it as its subject, as of the last look-up.

        Takes a look into a table for each; neither encodes nor asks the database.
        """
        return self._search.are_subjects(names, self._space(namespace))

    def about(
        self,
        names: Sequence[str],
        vector: FloatArray,
        *,
        k: int = 8,
        namespace: str | None = None,
        at: datetime | None = None,
    ) -> Candidates:
        """Return for each name the edits whose subject it is, the ``k`` nearest to a unit vector ``[d]``, best first.

        Only edits in force, as for :meth:`candidates`. The subject is the name but for case, accents, punctuation, an
        article in front and a parenthesis behind. Of a name with more than 256 edits the newest 256 are looked at.
        """
        when = check_time(at, "at") or datetime.now(UTC)
        return self._search.about(names, vector, self._space(namespace), k, when)

    def update(
        self,
        id: str,
        *,
        namespace: str | None = None,
        on_conflict: OnConflict = "error",
        if_version: int | None = None,
        **changes: Any,
    ) -> Edit:
        """Correct an edit in place: the same id, the next version.

        Args:
            id: the edit.
            namespace: another namespace than the memory's own.
            on_conflict: as for :meth:`add`.
            if_version: change it only while it is at this version; so with the other methods that take it.
            changes: fields of :class:`EditDraft` and ``state`` (pending, active, consolidated). With a new prompt and
                no subject, the subject is found again. A consolidated edit whose texts change is active again.

        Raises:
            EditNotFoundError, EditChangedError, InputError, ConflictError, StoreError: nothing was changed.
        """
        space = self._space(namespace)
        self._mutations.update(id, space, changes, check_policy(on_conflict), if_version)
        return self.get(id, namespace=space)

    def supersede(
        self,
        id: str,
        *,
        namespace: str | None = None,
        on_conflict: OnConflict = "error",
        if_version: int | None = None,
        **changes: Any,
    ) -> Edit:
        """Replace an edit by a new one with its own id, withdrawing the old one in the same transaction.

        The new edit has the old one's fields but for ``changes`` (``target="..."`` as a rule).

        Raises:
            EditNotFoundError, EditChangedError, InputError, ConflictError, StoreError: nothing was changed.
        """
        space, policy = self._space(namespace), check_policy(on_conflict)
        return self.get(self._mutations.supersede(id, space, changes, policy, if_version), namespace=space)

    def delete(self, id: str, *, namespace: str | None = None, if_version: int | None = None) -> Edit:
        """Withdraw an edit: it no longer answers, but it is kept and can be restored. Twice is as once.

        Raises:
            EditNotFoundError: no edit with this id in the namespace.
            EditChangedError: it is not at version ``if_version``.
        """
        self._mutations.withdraw([id], self._space(namespace), if_version)
        return self.get(id, namespace=namespace)

    def delete_many(self, ids: Sequence[str], *, namespace: str | None = None) -> None:
        """Withdraw many edits in one transaction: all of them, or none when an id is not in the namespace.

        Raises:
            EditNotFoundError: an id is not in the namespace.
        """
        self._mutations.withdraw(ids, self._space(namespace))

    def block(
        self, id: str, text: str, *, remove: bool = False, namespace: str | None = None, if_version: int | None = None
    ) -> Edit:
        """Teach an edit a text that must not fire it; a paraphrase that says the same is taken out.

        Args:
            id: the edit.
            text: what is asked; asked so, but for case and punctuation, the edit stays silent in every scope.
            remove: take the block back instead.
            namespace: another namespace than the memory's own.
            if_version: as for :meth:`update`.

        Raises:
            EditNotFoundError, EditChangedError, InputError, StoreError: nothing was changed.
        """
        return self._teach(id, lambda edit: blocked(edit, text, remove=remove), namespace, if_version)

    def also(
        self, id: str, text: str, *, remove: bool = False, namespace: str | None = None, if_version: int | None = None
    ) -> Edit:
        """Teach an edit a text that must fire it: a paraphrase; a block that says the same is taken out.

        Arguments and errors as for :meth:`block`.
        """
        return self._teach(id, lambda edit: paraphrased(edit, text, remove=remove), namespace, if_version)

    def _teach(
        self, id: str, change: Callable[[Edit], dict[str, Any]], namespace: str | None, if_version: int | None
    ) -> Edit:
        while True:
            edit = self.get(id, namespace=namespace)
            version = edit.version if if_version is None else if_version
            try:
                return self.update(id, namespace=namespace, if_version=version, **change(edit))
            except EditChangedError:
                if if_version is not None:
                    raise  # else somebody else was quicker: look at it again

    def restore(
        self,
        id: str,
        *,
        namespace: str | None = None,
        on_conflict: OnConflict = "error",
        if_version: int | None = None,
    ) -> Edit:
        """Bring a withdrawn edit back into force.

        Raises:
            EditNotFoundError: no edit with this id in the namespace.
            EditChangedError: it is not at version ``if_version``.
            ConflictError: it contradicts an edit now in force and ``on_conflict`` is "error".
        """
        self._mutations.restore(id, self._space(namespace), check_policy(on_conflict), if_version)
        return self.get(id, namespace=namespace)

    def history(self, id: str, *, namespace: str | None = None) -> History:
        """Return every change of an edit, oldest first."""
        with self._database.read() as connection:
            return reading.edit_history(connection, self._space(namespace), id)

    def as_of(self, when: datetime, *, valid: datetime | None = None, namespace: str | None = None) -> Edits:
        """Return the edits that the store held at ``when``, as they were then.

        Args:
            when: a time of the store (timezone-aware).
            valid: only those that hold in the world at this time.
            namespace: another namespace than the memory's own.
        """
        moment, held = check_time(when, "when"), check_time(valid, "valid")
        if moment is None:
            raise InputError("when=None: give a time")
        with self._database.read() as connection:
            return reading.edits_as_of(connection, self._space(namespace), moment, held)

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
    ) -> AuditEntries:
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

    def possible_conflicts(self, id: str | None = None, *, namespace: str | None = None) -> Doubts:
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
        artefacts.put_artefacts(self._database, self._space(namespace), kind, fingerprint, blobs)

    def get_artefacts(
        self, kind: str, fingerprint: str, ids: Sequence[str], *, namespace: str | None = None
    ) -> dict[str, bytes]:
        """Return the artefacts of this kind and fingerprint by edit id; edits that have none are left out."""
        with self._database.read() as connection:
            return artefacts.get_artefacts(connection, self._space(namespace), kind, fingerprint, ids)

    def get_setting(self, key: str, *, namespace: str | None = None) -> str | None:
        """Return a durable setting of the namespace, None when it is not set."""
        with self._database.read() as connection:
            return artefacts.get_setting(connection, self._space(namespace), key)

    def set_setting(self, key: str, value: str | None, *, namespace: str | None = None) -> None:
        """Set a durable setting of the namespace (a calibrated threshold, say); None removes it."""
        check_text(key, "key")
        if value is not None:
            check_text(value, "value", blank=True)
        artefacts.set_setting(self._database, self._space(namespace), key, value)

    def set_states(
        self, ids: Sequence[str], state: EditState | str, *, link: str | None = None, namespace: str | None = None
    ) -> None:
        """Move edits to pending, active or consolidated in one transaction.

        Args:
            ids: the edits; those in the state already are left alone.
            state: where to.
            link: what the change is owed to (the version an edit was consolidated into); the history shows it.
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
            on_conflict: as for :meth:`add_many`; "supersede" lets the later row win.
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
        return add_file(self._mutations, space, policy, found, dry_run=dry_run, progress=progress)

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
            problems = upkeep.store_problems(connection)
            count, found = upkeep.edit_problems(connection, name)
            vectors, wrong = upkeep.vector_problems(connection, name)
            rows, off = upkeep.index_problems(connection, self._search.space(name)) if count else (0, [])
        return VerifyReport(count, vectors, rows, (*problems, *found, *wrong, *off))

    def encode_missing(self, *, namespace: str | None = None, progress: Progress | None = None) -> int:
        """Encode the texts that have no vector of the memory's encoder; return how many edits had such texts.

        Raises:
            StoreError: it could not be written; the steps before stay done.
        """
        return upkeep.encode_missing(self._database, self._encoder, self._space(namespace), progress)

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
            upkeep.forget(self._database, moment)
        self._database.compact()

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
        written = self._mutations.transactions.rows_written
        try:
            if written and any(space.outdated for space in self._search.loaded()):
                with self._database.read() as connection:
                    self._search.save(connection, only_loaded=True)
            elif written >= _MANY_ROWS and self._search.folder is not None:
                self.save_index()
        except MemeditError:
            pass  # a cache that cannot be written is made again from the store
        finally:
            self._mutations.transactions.rows_written = 0
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _space(self, namespace: str | None) -> str:
        return self._namespace if namespace is None else check_namespace(namespace)


def _nothing(row: int) -> str:
    return ""


def _check_page(limit: int | None, offset: int) -> None:
    if (limit is not None and limit < 0) or offset < 0:
        raise InputError(f"limit={limit}, offset={offset}: neither can be negative")
