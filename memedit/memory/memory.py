"""The edit memory: what the rest of memedit, and its users, see of the store."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from memedit.encoders.base import Progress
from memedit.errors import EditChangedError, InputError
from memedit.memory import reading
from memedit.memory.planning import OnConflict, check_policy
from memedit.memory.reports import AddReport, Change
from memedit.memory.rows import row_edit
from memedit.memory.teaching import blocked, paraphrased
from memedit.memory.upkeep import MemoryUpkeep
from memedit.memory.validation import check_time
from memedit.types import Candidate, Edit, EditDraft, EditKind, EditState, Encoding, FloatArray

# aliases, because inside the class ``list`` is the method
Edits = list[Edit]
Scored = list[tuple[Edit, float]]
Candidates = list[list[Candidate]]
History = list[Change]
Flags = list[bool]


class EditMemory(MemoryUpkeep):
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
            text: words (mode "text": every word stands in the edit, ignoring case and diacritics; the score is how
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
        """Guess at once whether an edit is likely to apply to ``text``: whether one's subject stands in it.

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


def _nothing(row: int) -> str:
    return ""


def _check_page(limit: int | None, offset: int) -> None:
    if (limit is not None and limit < 0) or offset < 0:
        raise InputError(f"limit={limit}, offset={offset}: neither can be negative")
