"""Every change of edits: what it plans, and what it writes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete

from memedit.encoders.base import Progress
from memedit.errors import FieldError, InputError
from memedit.memory.conflicts import RelationJudge
from memedit.memory.doubts import forget_doubts, record_doubts
from memedit.memory.encoding import EncoderSource, TextReader, check_vectors
from memedit.memory.planning import OnConflict, Plan, plan_batch
from memedit.memory.reading import current_rows, ids_in_use, known_members, rows_by_seq
from memedit.memory.reports import AddReport
from memedit.memory.rows import (
    EditRow,
    at_version,
    draft_row,
    interval,
    merged,
    next_row,
    not_withdrawn,
    row_texts,
    same_row,
    says_else,
    split_state,
)
from memedit.memory.schema import artefacts
from memedit.memory.stamps import IdFactory, now_micros
from memedit.memory.store.database import Database
from memedit.memory.transaction import TextVectors, Transactions, Work
from memedit.memory.validation import check_draft
from memedit.memory.writer import Writer
from memedit.types import EditDraft, EditState, FloatArray

RETIRED = EditState.RETIRED.value
CONSOLIDATED = EditState.CONSOLIDATED.value


class Mutations:
    """Adds, changes and withdraws edits; each change is one :class:`~memedit.memory.transaction.Transactions` run."""

    def __init__(self, database: Database, encoder: EncoderSource, judge: RelationJudge) -> None:
        self._database = database
        self._encoder = encoder
        self._reader = TextReader(encoder)
        self._judge = judge
        self._ids = IdFactory()
        self.transactions = Transactions(database, encoder)

    def add_many(
        self,
        drafts: Iterable[EditDraft | Mapping[str, Any]],
        namespace: str,
        policy: OnConflict,
        *,
        vectors: FloatArray | None = None,
        progress: Progress | None = None,
        describe: Callable[[int], str] | None = None,
        ids: Sequence[str | None] | None = None,
        states: Sequence[str] | None = None,
        dry_run: bool = False,
    ) -> AddReport:
        """Add drafts in one transaction; see :meth:`EditMemory.add_many`.

        ``ids`` are wanted ids (one that is taken is replaced by a new one), ``states`` the states of the new edits.
        With ``dry_run`` nothing is written; the report says what would be.
        """
        say, made = describe or _row_of, TextVectors(self._encoder)
        rows = self._rows(self._reader.drafts(drafts, say, made.by_text, progress), namespace, say, ids)
        for row, state in zip(rows, states or (), strict=states is not None):
            row["state"] = state
        if not rows:
            return AddReport((), (), (), (), ())
        if vectors is not None:
            texts = [text for row in rows for text in row_texts(row)]
            unit = check_vectors(vectors, len(texts), self._encoder.get().dimension)
            made.by_text.update(zip(texts, unit, strict=True))

        def plan(connection: Connection) -> Work:
            known = known_members(connection, namespace, rows)
            found = plan_batch(rows, known, self._judge, policy, say, vectors=made.by_text)
            chosen = [rows[i] for i in found.inserts]
            return Work(added=chosen, encode=chosen, plan=found)

        def apply(writer: Writer, connection: Connection, work: Work) -> None:
            writer.add(work.added)
            if work.plan is not None:
                _write_plan(writer, connection, rows, work.plan)

        work = self.transactions.run(namespace, plan, apply, vectors=made, progress=progress, dry_run=dry_run)
        return _report(rows, work.plan or Plan())

    def update(
        self,
        edit_id: str,
        namespace: str,
        values: Mapping[str, Any],
        policy: OnConflict,
        if_version: int | None = None,
    ) -> None:
        """Make the next version of an edit with some fields changed; ``if_version`` only of that version."""
        fields, state = split_state(values)

        def plan(connection: Connection) -> Work:
            old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
            new = self._changed(old, fields, state)
            if same_row(old, new):
                return Work()
            encode = [new] if row_texts(new) != row_texts(old) else []
            return Work(
                replaced=[(old, new)],
                encode=encode,
                plan=self._alone(connection, new, policy) if says_else(old, new) else None,
            )

        def apply(writer: Writer, connection: Connection, work: Work) -> None:
            ((old, new),) = work.replaced
            writer.replace(old, new)
            writer.log(new, "update" if fields else "state")
            if (new["content_hash"], new["blocks"]) != (old["content_hash"], old["blocks"]):
                connection.execute(delete(artefacts).where(artefacts.c.seq == old["seq"]))
            if work.encode:
                writer.drop_vectors([old["seq"]])
            if work.plan is not None:
                _settle(writer, connection, work.plan, new)

        self.transactions.run(namespace, plan, apply)

    def supersede(
        self,
        edit_id: str,
        namespace: str,
        values: Mapping[str, Any],
        policy: OnConflict,
        if_version: int | None = None,
    ) -> str:
        """Withdraw an edit and put a new one in its place, atomically; return the new id."""

        def plan(connection: Connection) -> Work:
            old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
            new = self._successor(old, values)
            contradicted = self._alone(connection, new, policy, besides=old["seq"])
            retired = next_row(old, now_micros(), state=RETIRED)
            return Work(added=[new], replaced=[(old, retired)], encode=[new], plan=contradicted)

        def apply(writer: Writer, connection: Connection, work: Work) -> None:
            (new,), ((old, retired),) = work.added, work.replaced
            writer.add([new])
            writer.log(new, "supersede", edit_id)
            writer.replace(old, retired)
            writer.log(retired, "superseded", new["id"])
            if work.plan is not None:
                _settle(writer, connection, work.plan, new)

        return str(self.transactions.run(namespace, plan, apply).added[0]["id"])

    def _successor(self, old: EditRow, values: Mapping[str, Any]) -> EditRow:
        """The row of the edit that supersedes ``old``."""
        draft = self._reader.with_subject(check_draft(merged(not_withdrawn(old), values)))
        new = draft_row(draft, old["namespace"], edit_id=self._ids.take(1)[0], now=now_micros())
        if new["content_hash"] == old["content_hash"] and interval(new) == interval(old):
            raise InputError(f"superseding edit {old['id']} with itself: give a target, prompt or time that differs")
        return new

    def restore(self, edit_id: str, namespace: str, policy: OnConflict, if_version: int | None = None) -> None:
        """Bring a withdrawn edit back into force."""

        def plan(connection: Connection) -> Work:
            old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
            if old["state"] != RETIRED:
                return Work()
            new = next_row(old, now_micros(), state=EditState.ACTIVE.value)
            return Work(replaced=[(old, new)], plan=self._alone(connection, new, policy))

        def apply(writer: Writer, connection: Connection, work: Work) -> None:
            ((old, new),) = work.replaced
            writer.replace(old, new)
            writer.log(new, "restore")
            if work.plan is not None:
                _settle(writer, connection, work.plan, new)

        self.transactions.run(namespace, plan, apply)

    def withdraw(self, ids: Sequence[str], namespace: str, if_version: int | None = None) -> None:
        """Retire edits; those that are retired stay as they are."""
        self._set_states(namespace, ids, EditState.RETIRED, "delete", check=lambda row: at_version(row, if_version))

    def move(self, ids: Sequence[str], namespace: str, state: EditState | str, other: str | None) -> None:
        """Move live edits to another live state; ``other`` is what the change log links the change to."""
        wanted = split_state({"state": state})[1] or ""
        self._set_states(namespace, ids, EditState(wanted), "state", check=not_withdrawn, other=other)

    def _set_states(
        self,
        namespace: str,
        ids: Sequence[str],
        state: EditState,
        action: str,
        *,
        check: Callable[[EditRow], EditRow],
        other: str | None = None,
    ) -> None:
        """Move edits to a state in one transaction; those in it already are left alone."""

        def plan(connection: Connection) -> Work:
            rows = [check(row) for row in current_rows(connection, namespace, ids).values()]
            moving = [row for row in rows if row["state"] != state.value]
            return Work(replaced=[(row, next_row(row, now_micros(), state=state.value)) for row in moving])

        def apply(writer: Writer, connection: Connection, work: Work) -> None:
            for old, new in work.replaced:
                writer.replace(old, new)
                writer.log(new, action, other)

        self.transactions.run(namespace, plan, apply)

    def _rows(
        self, drafts: Sequence[EditDraft], namespace: str, say: Callable[[int], str], ids: Sequence[str | None] | None
    ) -> list[EditRow]:
        """Make a row of every draft; nothing has been written when one is refused."""
        rows: list[EditRow] = []
        now = now_micros()
        for i, draft in enumerate(drafts):
            try:
                rows.append(draft_row(draft, namespace, edit_id="", now=now))
            except FieldError as error:
                raise FieldError(error.field, error.reason, where=say(i)) from error
        fresh = self._ids.take(len(rows))
        names = self._free_ids(ids, fresh) if ids and any(ids) else fresh
        for row, name in zip(rows, names, strict=True):
            row["id"] = name
        return rows

    def _free_ids(self, wanted: Sequence[str | None], fresh: Sequence[str]) -> list[str]:
        """The wanted ids, but fresh ones where an id is taken or wanted twice."""
        asked = [edit_id for edit_id in wanted if edit_id]
        with self._database.read() as connection:
            taken = ids_in_use(connection, asked)
        names: list[str] = []
        for want, new in zip(wanted, fresh, strict=True):
            names.append(new if not want or want in taken else want)
            taken.add(names[-1])
        return names

    def _changed(self, old: EditRow, fields: Mapping[str, Any], state: str | None) -> EditRow:
        draft = self._reader.with_subject(check_draft(merged(old, fields))) if fields else None
        new = next_row(not_withdrawn(old), now_micros(), draft, state)
        if state is None and new["content_hash"] != old["content_hash"] and old["state"] == CONSOLIDATED:
            new["state"] = EditState.ACTIVE.value  # weights that hold the old texts do not hold the new ones
        return new

    def _alone(self, connection: Connection, row: EditRow, policy: OnConflict, besides: int | None = None) -> Plan:
        """What one row contradicts, other than itself and the edit ``besides``.

        Raises:
            ConflictError: it contradicts a live edit and the policy is "error".
            InputError: the same edit is there already under another id.
        """
        skip = {row.get("seq"), besides}
        known = [m for m in known_members(connection, row["namespace"], [row]) if m.seq not in skip and not m.withdrawn]
        plan = plan_batch([row], known, self._judge, policy)
        if plan.duplicates:
            raise InputError(f"edit {plan.duplicates[0]} says the same already; withdraw one of the two")
        return plan


def _row_of(index: int) -> str:
    return f"row {index}: "


def _report(rows: Sequence[EditRow], plan: Plan) -> AddReport:
    return AddReport(
        ids=tuple(plan.ids),
        added=tuple(rows[i]["id"] for i in plan.inserts),
        duplicates=tuple(plan.duplicates),
        superseded=tuple(old.id for old, _ in plan.retired),
        conflicts=tuple(plan.conflicts),
        doubtful=plan.doubtful,
    )


def _write_plan(writer: Writer, connection: Connection, rows: Sequence[EditRow], plan: Plan) -> None:
    """Log the new edits, retire what they supersede, and keep the pairs that are in doubt."""
    replaced = {new_id: old.id for old, new_id in plan.retired}
    for i in plan.inserts:
        row = rows[i]
        writer.log(row, "supersede" if row["id"] in replaced else "add", replaced.get(row["id"]))
    _retire(writer, connection, plan, {row["id"]: row for row in rows})
    record_doubts(connection, plan.doubts, rows, writer.now)


def _settle(writer: Writer, connection: Connection, plan: Plan, row: EditRow) -> None:
    """Retire what the one changed edit supersedes, and keep the pairs that it is in doubt with now."""
    _retire(writer, connection, plan, {})
    forget_doubts(connection, [row["seq"]])
    record_doubts(connection, plan.doubts, [row], writer.now)


def _retire(writer: Writer, connection: Connection, plan: Plan, batch: Mapping[str, EditRow]) -> None:
    """Retire every edit that a plan supersedes, stored or of the same batch."""
    stored = rows_by_seq(connection, [old.seq for old, _ in plan.retired if old.row is None]) if plan.retired else {}
    for member, new_id in plan.retired:
        old = stored[member.seq] if member.row is None else batch[member.id]
        retired = next_row(old, writer.now, state=RETIRED)
        writer.replace(old, retired)
        writer.log(retired, "superseded", new_id)
