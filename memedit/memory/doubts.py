"""Pairs of edits in force that perhaps contradict each other: kept until people settle them, or one is withdrawn."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select

from memedit.errors import InputError
from memedit.memory.conflicts import Member
from memedit.memory.normal import normalise
from memedit.memory.reading import current_rows, rows_by_seq
from memedit.memory.reports import PossibleConflict
from memedit.memory.rows import LIVE, EditRow, edit_draft, next_row, row_edit
from memedit.memory.schema import artefacts, possible_conflicts
from memedit.memory.stamps import from_micros
from memedit.memory.store.database import Database
from memedit.memory.validation import check_draft
from memedit.memory.writer import Writer
from memedit.types import EditState

_C = possible_conflicts.c


def record_doubts(
    connection: Connection,
    doubts: Iterable[tuple[Member, Member, float]],
    rows: Sequence[Mapping[str, Any]],
    now: int,
) -> None:
    """Keep pairs (newer, older, score); ``rows`` are those of the batch, which have their ``seq`` by now."""
    values = [
        {"newer": _seq(new, rows), "older": _seq(old, rows), "namespace": new.values["namespace"], "score": score}
        for new, old, score in doubts
    ]
    if values:
        connection.execute(insert(possible_conflicts), [row | {"at": now} for row in values])


def forget_doubts(connection: Connection, seqs: Sequence[int]) -> None:
    """Drop the pairs that one of these edits belongs to."""
    connection.execute(delete(possible_conflicts).where(or_(_C.newer.in_(seqs), _C.older.in_(seqs))))


def _seq(member: Member, rows: Sequence[Mapping[str, Any]]) -> int:
    return int(member.seq if member.row is None else rows[member.row]["seq"])


def read_doubts(connection: Connection, namespace: str, edit_id: str | None) -> list[PossibleConflict]:
    """The pairs of a namespace, or of one edit, the likeliest first; both edits are not withdrawn.

    Raises:
        EditNotFoundError: no such edit in the namespace.
    """
    query = select(possible_conflicts).where(_C.namespace == namespace)
    if edit_id is not None:
        seq = current_rows(connection, namespace, [edit_id])[edit_id]["seq"]
        query = query.where(or_(_C.newer == seq, _C.older == seq))
    pairs = connection.execute(query.order_by(_C.score.desc(), _C.newer, _C.older)).all()
    rows = rows_by_seq(connection, {seq for pair in pairs for seq in (pair.newer, pair.older)})
    live = {seq: row_edit(row) for seq, row in rows.items() if row["state"] in LIVE}
    return [
        PossibleConflict(live[pair.newer], live[pair.older], float(pair.score), from_micros(pair.at))
        for pair in pairs
        if pair.newer in live and pair.older in live
    ]


def settle_doubt(database: Database, namespace: str, one: str, other: str, *, same: bool) -> PossibleConflict:
    """Settle a pair in one transaction; see :meth:`EditMemory.settle_conflict`."""
    with database.write() as connection:
        found = [pair for pair in read_doubts(connection, namespace, one) if other in (pair.newer.id, pair.older.id)]
        if not found or one == other:
            current_rows(connection, namespace, [other])
            raise InputError(
                f"edits {one} and {other} are no possible conflict; `memedit edit conflicts` lists those there are"
            )
        newer, older = found[0].newer, found[0].older
        rows = current_rows(connection, namespace, [newer.id, older.id])
        writer = Writer(database, connection)
        if same:
            changed = [(older.id, newer.id, next_row(rows[older.id], writer.now, state=EditState.RETIRED.value))]
        else:
            changed = [
                (newer.id, older.id, _apart(rows[newer.id], older.prompt, writer.now)),
                (older.id, newer.id, _apart(rows[older.id], newer.prompt, writer.now)),
            ]
        for edit_id, reason, row in changed:
            writer.replace(rows[edit_id], row)
            writer.log(row, "superseded" if same else "told-apart", reason)
            rows[edit_id] = row
        seqs = [rows[newer.id]["seq"], rows[older.id]["seq"]]
        mine = (_C.newer == seqs[0]) & (_C.older == seqs[1])
        connection.execute(delete(possible_conflicts).where(mine))
        if not same:
            connection.execute(delete(artefacts).where(artefacts.c.seq.in_(seqs)))
        writer.flush()
    return replace(found[0], newer=row_edit(rows[newer.id]), older=row_edit(rows[older.id]))


def _apart(row: EditRow, prompt: str, now: int) -> EditRow:
    """The next version of an edit, which blocks the other's prompt."""
    draft = edit_draft(row_edit(row))
    known = {normalise(text) for text in draft.blocks}
    blocks = draft.blocks if normalise(prompt) in known else (*draft.blocks, prompt)
    return next_row(row, now, check_draft(replace(draft, blocks=blocks)))
