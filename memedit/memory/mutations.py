"""Every change of the memory: check, plan, encode outside the lock, then one transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete

from memedit.encoders.base import Progress
from memedit.errors import FieldError, InputError
from memedit.memory.changing import at_version, interval, merged, not_withdrawn, same_row, says_else, split_state
from memedit.memory.conflicts import RelationJudge
from memedit.memory.database import Database
from memedit.memory.doubts import forget_doubts, record_doubts
from memedit.memory.encoding import EncoderSource, check_vectors
from memedit.memory.ids import IdFactory
from memedit.memory.planning import OnConflict, Plan, plan_batch
from memedit.memory.reading import current_rows, ids_in_use, known_members, rows_by_seq, store_revision
from memedit.memory.readings import TextReader
from memedit.memory.reports import AddReport
from memedit.memory.rows import EditRow, draft_row, next_row, row_texts
from memedit.memory.schema import artefacts
from memedit.memory.times import now_micros
from memedit.memory.validation import check_draft
from memedit.memory.writer import Writer, check_encoder, encoder_row
from memedit.types import EditDraft, EditState, FloatArray

RETIRED = EditState.RETIRED.value
CONSOLIDATED = EditState.CONSOLIDATED.value


class Mutations:
    """Adds, changes and withdraws edits.

    Everything slow (checking, finding subjects, encoding, judging contradictions) happens before the write lock is
    taken. Should another process have committed meanwhile, the plan is worked out again under the lock.
    """

    def __init__(self, database: Database, encoder: EncoderSource, judge: RelationJudge) -> None:
        self._database = database
        self._encoder = encoder
        self._reader = TextReader(encoder)
        self._judge = judge
        self._ids = IdFactory()
        self.rows_written = 0

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
        say = describe or _row_of
        read: dict[str, FloatArray] = {}  # vectors of texts by the pass that found their subjects
        rows = self._rows(self._reader.drafts(drafts, say, read, progress), namespace, say, ids)
        for row, state in zip(rows, states or (), strict=states is not None):
            row["state"] = state
        if not rows:
            return AddReport((), (), (), (), ())
        if vectors is not None:
            count = sum(row["texts"] for row in rows)
            vectors = check_vectors(vectors, count, self._encoder.get().dimension)
        with self._database.read() as connection:
            revision = store_revision(connection)
            known = known_members(connection, namespace, rows)
        plan = plan_batch(rows, known, self._judge, policy, say)
        chosen = [rows[i] for i in plan.inserts]
        if dry_run or not chosen:  # not chosen: all of it is there already
            return _report(rows, plan)
        with self._database.read() as connection:
            check_encoder(connection, namespace, self._encoder.get())
        numbers = plan.inserts if vectors is None else list(range(len(rows)))
        made = self._encode(chosen, progress, read) if vectors is None else vectors
        with self._database.write() as connection:
            if store_revision(connection) != revision:
                plan = plan_batch(rows, known_members(connection, namespace, rows), self._judge, policy, say)
                chosen = [rows[i] for i in plan.inserts]
            writer = Writer(self._database, connection)
            writer.add(chosen)
            made = self._aligned(rows, numbers, made, plan.inserts)
            writer.put_vectors(chosen, made, self._encoder_row(connection, namespace))
            _write_plan(writer, connection, rows, plan)
            writer.flush()
        self.rows_written += len(chosen)
        return _report(rows, plan)

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
        with self._database.read() as connection:
            revision = store_revision(connection)
            old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
        new = self._changed(old, fields, state)
        if same_row(old, new):
            return
        judged = says_else(old, new)
        with self._database.read() as connection:
            if judged:
                self._alone(connection, new, policy)
        texts = row_texts(new)
        matrix = self._encoder.get().encode(texts) if texts != row_texts(old) else None
        with self._database.write() as connection:
            if store_revision(connection) != revision:
                old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
                new = self._changed(old, fields, state)
                matrix = self._encoder.get().encode(row_texts(new))
                judged = says_else(old, new)
            plan = self._alone(connection, new, policy) if judged else None
            writer = Writer(self._database, connection)
            writer.replace(old, new)
            writer.log(new, "update" if fields else "state")
            if (new["content_hash"], new["blocks"]) != (old["content_hash"], old["blocks"]):
                connection.execute(delete(artefacts).where(artefacts.c.seq == old["seq"]))
            if matrix is not None:
                writer.drop_vectors([old["seq"]])
                writer.put_vectors([new], matrix, self._encoder_row(connection, namespace))
            if plan is not None:
                _settle(writer, connection, plan, new)
            writer.flush()
        self.rows_written += 1

    def supersede(
        self,
        edit_id: str,
        namespace: str,
        values: Mapping[str, Any],
        policy: OnConflict,
        if_version: int | None = None,
    ) -> str:
        """Withdraw an edit and put a new one in its place, atomically; return the new id."""
        with self._database.read() as connection:
            old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
            new = self._successor(old, values)
            self._alone(connection, new, policy, besides=old["seq"])
        matrix = self._encode([new], None)
        with self._database.write() as connection:
            now = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
            if now["version"] != old["version"]:  # changed meanwhile
                old, new = now, self._successor(now, values)
                matrix = self._encode([new], None)
            plan = self._alone(connection, new, policy, besides=old["seq"])
            writer = Writer(self._database, connection)
            writer.add([new])
            writer.put_vectors([new], matrix, self._encoder_row(connection, namespace))
            writer.log(new, "supersede", edit_id)
            retired = next_row(old, writer.now, state=RETIRED)
            writer.replace(old, retired)
            writer.log(retired, "superseded", new["id"])
            _settle(writer, connection, plan, new)
            writer.flush()
        self.rows_written += 1
        return str(new["id"])

    def _successor(self, old: EditRow, values: Mapping[str, Any]) -> EditRow:
        """The row of the edit that supersedes ``old``."""
        draft = self._reader.with_subject(check_draft(merged(not_withdrawn(old), values)))
        new = draft_row(draft, old["namespace"], edit_id=self._ids.take(1)[0], now=now_micros())
        if new["content_hash"] == old["content_hash"] and interval(new) == interval(old):
            raise InputError(f"superseding edit {old['id']} with itself: give a target, prompt or time that differs")
        return new

    def withdraw(self, ids: Sequence[str], namespace: str, if_version: int | None = None) -> None:
        """Retire edits; those that are retired stay as they are."""
        self._set_states(ids, namespace, EditState.RETIRED, "delete", if_version=if_version)

    def move(self, ids: Sequence[str], namespace: str, state: EditState | str, other: str | None) -> None:
        """Move live edits to another live state; ``other`` is what the change log links the change to."""
        wanted = split_state({"state": state})[1] or ""
        with self._database.read() as connection:
            for row in current_rows(connection, namespace, ids).values():
                not_withdrawn(row)
        self._set_states(ids, namespace, EditState(wanted), "state", other=other)

    def restore(self, edit_id: str, namespace: str, policy: OnConflict, if_version: int | None = None) -> None:
        """Bring a withdrawn edit back into force."""
        with self._database.read() as connection:
            old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
            if old["state"] == RETIRED:
                self._alone(connection, old, policy)
        with self._database.write() as connection:
            old = at_version(current_rows(connection, namespace, [edit_id])[edit_id], if_version)
            if old["state"] != RETIRED:
                return
            writer = Writer(self._database, connection)
            new = next_row(old, writer.now, state=EditState.ACTIVE.value)
            plan = self._alone(connection, new, policy)
            writer.replace(old, new)
            writer.log(new, "restore")
            _settle(writer, connection, plan, new)
            writer.flush()
        self.rows_written += 1

    def _set_states(
        self,
        ids: Sequence[str],
        namespace: str,
        state: EditState,
        action: str,
        *,
        if_version: int | None = None,
        other: str | None = None,
    ) -> None:
        """Move edits to a state in one transaction; those in it already are left alone."""
        with self._database.read() as connection:
            rows = [at_version(row, if_version) for row in current_rows(connection, namespace, ids).values()]
            if all(row["state"] == state.value for row in rows):
                return
        with self._database.write() as connection:
            found = current_rows(connection, namespace, ids)
            writer = Writer(self._database, connection)
            for old in found.values():
                at_version(old, if_version)
                if old["state"] != state.value:
                    new = next_row(old, writer.now, state=state.value)
                    writer.replace(old, new)
                    writer.log(new, action, other)
            writer.flush()
        self.rows_written += len(ids)

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

    def _encode(
        self, rows: Sequence[EditRow], progress: Progress | None, known: Mapping[str, FloatArray] | None = None
    ) -> FloatArray:
        """Vectors ``[t, d]`` of all texts of ``rows``, in one call so that the encoder can sort them by length.

        Texts in ``known`` have their vectors already.
        """
        texts = [text for row in rows for text in row_texts(row)]
        fresh = [text for text in texts if text not in known] if known else texts
        made = self._encoder.get().encode(fresh, progress=progress) if fresh else _NONE
        if not known:
            return made
        new = iter(made)
        return np.stack([known[text] if text in known else next(new) for text in texts])

    def _aligned(
        self, rows: Sequence[EditRow], have: Sequence[int], matrix: FloatArray, want: Sequence[int]
    ) -> FloatArray:
        """Turn the vectors of the rows ``have`` (numbers) into those of the rows ``want``; missing ones are encoded."""
        if have == want:
            return matrix
        ends = np.cumsum([rows[i]["texts"] for i in have])
        parts = dict(zip(have, np.split(matrix, ends[:-1]), strict=True)) if have else {}
        found = [parts[i] if i in parts else self._encode([rows[i]], None) for i in want]
        return np.concatenate(found) if found else _NONE

    def _encoder_row(self, connection: Connection, namespace: str) -> int:
        """Id of the encoder for new vectors of the namespace."""
        check_encoder(connection, namespace, self._encoder.get())
        return encoder_row(connection, self._encoder.get())

    def _alone(self, connection: Connection, row: EditRow, policy: OnConflict, besides: int | None = None) -> Plan:
        """What one row contradicts, other than itself and the edit ``besides``.

        Callers ask once before taking the write lock, so that the encoder's work is done and a refusal costs nothing,
        and once under it, where the answer counts.

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


_NONE: FloatArray = np.zeros((0, 0), dtype=np.float32)


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
