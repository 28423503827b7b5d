"""Queries on the store, and the vectors that lie beside the edits. None of them writes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, any_, bindparam, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from memedit.errors import EditNotFoundError, FieldError, InputError
from memedit.memory.conflicts import Member
from memedit.memory.reports import Change
from memedit.memory.rows import LIVE, EditRow, row_edit
from memedit.memory.schema import ORDINAL_BITS, changes, counters, edits, vectors
from memedit.memory.stamps import from_micros, to_micros
from memedit.memory.store.dialect import fold, folded, metadata_equals
from memedit.memory.validation import check_text
from memedit.registry import unknown_name_message
from memedit.types import Edit, EditState

T = TypeVar("T")
CURRENT = edits.c.expired_at.is_(None)
_CHUNK = 5_000
_MOST_VALUES, _MOST_WORDS, _LONGEST_WORD = 50, 100, 10_000


def chunks(items: Sequence[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts that fit a statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def store_revision(connection: Connection) -> int:
    """The number of the newest committed change."""
    return int(connection.execute(select(counters.c.value).where(counters.c.name == "revision")).scalar_one())


def states_filter(state: EditState | str | None) -> ColumnElement[bool] | None:
    """The condition for ``state``: None is every edit not withdrawn, "all" every edit.

    Raises:
        InputError: no such state.
    """
    if state is None:
        return edits.c.state.in_(LIVE)
    if state == "all":
        return None
    try:
        return edits.c.state == EditState(state).value
    except ValueError:
        known = [*(s.value for s in EditState), "all"]
        raise InputError(unknown_name_message("edit state", str(state), known)) from None


def current_rows(connection: Connection, namespace: str, ids: Sequence[str]) -> dict[str, EditRow]:
    """The current versions of these edits, by id.

    Raises:
        EditNotFoundError: an id is not in the namespace.
    """
    found = rows_of(connection, namespace, ids)
    for edit_id in ids:
        if edit_id not in found:
            raise EditNotFoundError(edit_id, namespace)
    return found


def rows_of(connection: Connection, namespace: str, ids: Sequence[str]) -> dict[str, EditRow]:
    """The current versions of those of the edits that are there, by id."""
    found: dict[str, EditRow] = {}
    for part in chunks(list(dict.fromkeys(ids))):
        query = select(edits).where(edits.c.id.in_(part), edits.c.namespace == namespace, CURRENT)
        found.update((row["id"], dict(row)) for row in connection.execute(query).mappings())
    return found


def ids_in_use(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these ids the store has, in whatever namespace."""
    found: set[str] = set()
    for part in chunks(ids):
        found.update(connection.execute(select(edits.c.id).where(edits.c.id.in_(part))).scalars())
    return found


def rows_by_seq(connection: Connection, seqs: Iterable[int]) -> dict[int, EditRow]:
    """The current versions of these edits, by ``seq``."""
    found: dict[int, EditRow] = {}
    for part in chunks(list(seqs)):
        query = select(edits).where(edits.c.seq.in_(part), CURRENT)
        found.update((row["seq"], dict(row)) for row in connection.execute(query).mappings())
    return found


def known_members(connection: Connection, namespace: str, rows: Sequence[Mapping[str, Any]]) -> list[Member]:
    """Stored edits, withdrawn ones too, that share a prompt or a subject with one of ``rows``; oldest first."""
    found: dict[int, Member] = {}
    for column, values in (
        (edits.c.prompt_hash, {row["prompt_hash"] for row in rows}),
        (edits.c.subject_hash, {row["subject_hash"] for row in rows} - {None}),
    ):
        for part in chunks(list(values)):
            query = select(edits).where(column.in_(part), edits.c.namespace == namespace, CURRENT)
            found.update((row["seq"], Member.of(row)) for row in connection.execute(query).mappings())
    return [found[seq] for seq in sorted(found)]


def list_edits(
    connection: Connection,
    namespace: str,
    *,
    state: EditState | str | None,
    metadata: Mapping[str, Any] | None,
    limit: int | None,
    offset: int,
    after: str | None = None,
    order: str = "added",
) -> list[Edit]:
    """Edits in an order; ``after``: only those that come later in it than the edit with this id.

    Raises:
        EditNotFoundError: ``after`` is not in the namespace.
        InputError: no such order.
    """
    column, down = _order(order)
    query = select(edits).where(*_list_filter(connection, namespace, state, metadata))
    if after is not None:
        last = select(column, edits.c.seq).where(
            edits.c.seq == current_rows(connection, namespace, [after])[after]["seq"]
        )
        place = tuple_(column, edits.c.seq)
        value = tuple_(*connection.execute(last.where(CURRENT)).one())
        query = query.where(place < value if down else place > value)
    query = query.order_by(*(part.desc() if down else part.asc() for part in (column, edits.c.seq)))
    query = query.limit(limit) if limit is not None else query.limit(2**31 - 1) if offset else query
    return [row_edit(row) for row in connection.execute(query.offset(offset) if offset else query).mappings()]


def _order(name: str) -> tuple[ColumnElement[Any], bool]:
    """What to order by, and whether downwards.

    Raises:
        InputError: no such order.
    """
    c = edits.c
    known = {
        "added": c.seq,
        "changed": c.created_at,
        "prompt": func.lower(c.prompt),
        "target": func.lower(c.target),
        "subject": func.lower(func.coalesce(c.subject, "")),
    }
    if name.removeprefix("-") not in known:
        raise InputError(unknown_name_message("order", name, [*known, *(f"-{one}" for one in known)]))
    return known[name.removeprefix("-")], name.startswith("-")


def stream_edits(connection: Connection, namespace: str, state: EditState | str | None) -> Iterator[Edit]:
    """Edits in the order they were first added, read as they are needed."""
    query = select(edits).where(*_list_filter(connection, namespace, state, None)).order_by(edits.c.seq)
    for row in connection.execution_options(yield_per=1_000).execute(query).mappings():
        yield row_edit(row)


def count_edits(
    connection: Connection, namespace: str, *, state: EditState | str | None, metadata: Mapping[str, Any] | None
) -> int:
    """How many edits :func:`list_edits` would give without a limit."""
    query = select(func.count()).select_from(edits).where(*_list_filter(connection, namespace, state, metadata))
    return int(connection.execute(query).scalar_one())


def _list_filter(
    connection: Connection, namespace: str, state: EditState | str | None, metadata: Mapping[str, Any] | None
) -> list[Any]:
    conditions: list[Any] = [edits.c.namespace == namespace, CURRENT]
    wanted = states_filter(state)
    if wanted is not None:
        conditions.append(wanted)
    if len(metadata or {}) > _MOST_VALUES:
        raise FieldError("metadata", f"{len(metadata or {}):,} values to match; at most {_MOST_VALUES} can be")
    for i, (key, value) in enumerate((metadata or {}).items()):
        _check_match(key, value)
        conditions.append(metadata_equals(connection.dialect.name, edits.c.metadata, key, value, str(i)))
    return conditions


def _check_match(key: Any, value: Any) -> None:
    """Refuse what no metadata can hold, or the database cannot compare.

    Raises:
        FieldError: the key is no text, or the value no text, number, boolean or None.
    """
    check_text(key, "metadata", blank=True)
    if isinstance(value, str):
        check_text(value, "metadata", blank=True)
    elif not isinstance(value, int | float | None):
        raise FieldError("metadata", f"the value of {key!r}, {value!r:.80}, is not text, a number, a boolean or None")
    elif value is not None and not abs(value) < 2**63:
        raise FieldError("metadata", f"the value of {key!r}, {value!r:.80}, is no number that is stored")


def search_text(connection: Connection, namespace: str, text: str, k: int) -> list[tuple[Edit, float]]:
    """Live edits with every word of ``text`` in their prompt, target, subject or paraphrases, ignoring case.

    The score is the share of the edit's prompt and target that the query makes up, so close-fitting edits come first.

    Raises:
        InputError: it has more words than can be asked for at once, or too long a one.
    """
    dialect = connection.dialect.name
    words = list(dict.fromkeys((fold(text) or "").split()))
    if not words:
        return []
    if len(words) > _MOST_WORDS or max(len(word.encode()) for word in words) > _LONGEST_WORD:
        raise InputError(
            f"a search by words takes at most {_MOST_WORDS} of them, of at most {_LONGEST_WORD:,} bytes each; this has "
            f"{len(words):,}. Search by meaning for a whole text"
        )
    whole = (
        edits.c.prompt + "\n" + edits.c.target + "\n" + func.coalesce(edits.c.subject, "") + "\n" + edits.c.paraphrases
    )
    body = folded(dialect, whole)
    query = (
        select(edits)
        .where(edits.c.namespace == namespace, CURRENT, edits.c.state.in_(LIVE))
        .where(*(body.contains(word, autoescape=True) for word in words))
        .order_by(func.length(edits.c.prompt) + func.length(edits.c.target), edits.c.seq)
        .limit(k)
    )
    length = sum(map(len, words)) + len(words) - 1
    rows = connection.execute(query).mappings()
    return [(row_edit(row), min(1.0, length / (len(row["prompt"]) + len(row["target"]) + 1))) for row in rows]


def edit_history(connection: Connection, namespace: str, edit_id: str) -> list[Change]:
    """Every change of one edit, oldest first.

    Raises:
        EditNotFoundError: no such id in the namespace.
    """
    row = current_rows(connection, namespace, [edit_id])[edit_id]
    query = (
        select(changes.c.revision, changes.c.at, changes.c.action, changes.c.other, edits)
        .join(edits, and_(edits.c.seq == changes.c.seq, edits.c.version == changes.c.version))
        .where(changes.c.seq == row["seq"])
        .order_by(changes.c.revision)
    )
    return [
        Change(row["revision"], from_micros(row["at"]), row["action"], row_edit(row), row["other"])
        for row in connection.execute(query).mappings()
    ]


def edits_as_of(connection: Connection, namespace: str, when: datetime, valid: datetime | None) -> list[Edit]:
    """Edits the store held at ``when``; with ``valid``, only those that hold in the world at that time."""
    moment = to_micros(when)
    query = select(edits).where(
        edits.c.namespace == namespace,
        edits.c.state.in_(LIVE),
        edits.c.created_at <= moment,
        or_(edits.c.expired_at.is_(None), edits.c.expired_at > moment),
    )
    if valid is not None:
        held = to_micros(valid)
        query = query.where(
            or_(edits.c.valid_at.is_(None), edits.c.valid_at <= held),
            or_(edits.c.invalid_at.is_(None), edits.c.invalid_at > held),
        )
    return [row_edit(row) for row in connection.execute(query.order_by(edits.c.seq)).mappings()]


def namespace_names(connection: Connection) -> tuple[str, ...]:
    """Every namespace that has, or had, an edit."""
    return tuple(connection.execute(select(edits.c.namespace).distinct().order_by(edits.c.namespace)).scalars())


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """How many edits each namespace has in each state."""
    query = (
        select(edits.c.namespace, edits.c.state, func.count())
        .where(CURRENT)
        .group_by(edits.c.namespace, edits.c.state)
        .order_by(edits.c.namespace, edits.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for namespace, state, number in connection.execute(query):
        found.setdefault(namespace, {})[state] = number
    return found


_ROWS_PER_READ = 20_000
_KEYS_PER_READ = 5_000
_FIRST = edits.c.seq * (1 << ORDINAL_BITS)


def vector_rows(
    connection: Connection, encoder: int | None, *conditions: ColumnElement[bool]
) -> Iterator[Sequence[Any]]:
    """Rows (key, vector) that ``encoder`` made of the edits that meet ``conditions``, a few thousand at a time."""
    if connection.dialect.name == "postgresql":
        yield from _by_keys(connection, encoder, *conditions)
        return
    query = (
        select(vectors.c.key, vectors.c.vector)
        .join_from(edits, vectors, (vectors.c.key >= _FIRST) & (vectors.c.key < _FIRST + edits.c.texts))
        .where(*conditions, vectors.c.encoder == encoder)
    )
    yield from connection.execute(query, execution_options={"yield_per": _ROWS_PER_READ}).partitions()


def _by_keys(connection: Connection, encoder: int | None, *conditions: ColumnElement[bool]) -> Iterator[Sequence[Any]]:
    """Read by key: PostgreSQL cannot tell how few rows a join on a range of keys has, and may try every pair."""
    found = connection.execute(select(edits.c.seq, edits.c.texts).where(*conditions).order_by(edits.c.seq)).all()
    keys = [seq << ORDINAL_BITS | ordinal for seq, texts in found for ordinal in range(texts)]
    wanted = vectors.c.key == any_(bindparam("keys", type_=ARRAY(BigInteger)))
    query = select(vectors.c.key, vectors.c.vector).where(wanted, vectors.c.encoder == encoder)
    for part in chunks(keys, _KEYS_PER_READ):
        rows = connection.execute(query, {"keys": list(part)}).all()
        if rows:
            yield rows
