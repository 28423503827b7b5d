"""Looking for what should not be: damage, half-written edits, vectors and indexes out of step."""

import numpy as np
from sqlalchemy import Connection, and_, func, select

from memedit.memory.encoding import join_vectors
from memedit.memory.namespace_index import NamespaceIndex
from memedit.memory.normal import content_hash, lookup_hash
from memedit.memory.reading import CURRENT, store_revision
from memedit.memory.rows import row_edit
from memedit.memory.schema import ORDINAL_BITS, changes, edits, encoders, vectors

_MOST = 20
_SAMPLE = 500


def store_problems(connection: Connection) -> list[str]:
    """Problems of the whole database."""
    problems: list[str] = []
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        problems += [f"database: {text}" for text in found if text != "ok"]
    newest = connection.execute(select(func.max(changes.c.revision))).scalar() or 0
    if newest != store_revision(connection):
        problems.append(f"the change log ends at {newest}, the revision counter says {store_revision(connection)}")
    current = func.sum(func.coalesce(edits.c.expired_at * 0, 1))
    many = select(edits.c.id).group_by(edits.c.seq, edits.c.id).having(current != 1)
    problems += [
        f"edit {i} has not exactly one current version" for i in connection.execute(many.limit(_MOST)).scalars()
    ]
    logged = select(changes.c.revision).where(changes.c.seq == edits.c.seq, changes.c.version == edits.c.version)
    silent = select(edits.c.id, edits.c.version).where(~logged.exists(), CURRENT).limit(_MOST)
    problems += [f"edit {row[0]} version {row[1]} is not in the change log" for row in connection.execute(silent)]
    return problems


def edit_problems(connection: Connection, namespace: str) -> tuple[int, list[str]]:
    """Count a namespace's edits and find those whose hashes do not fit their texts."""
    problems: list[str] = []
    count = 0
    query = select(edits).where(edits.c.namespace == namespace, CURRENT)
    for row in connection.execution_options(yield_per=1_000).execute(query).mappings():
        count += 1
        try:
            edit = row_edit(row)
        except ValueError as error:
            problems.append(f"edit {row['id']} cannot be read: {error}")
            continue
        if edit.content_hash != content_hash(namespace, edit.prompt, edit.target, edit.subject, edit.paraphrases):
            problems.append(f"edit {edit.id}: its content hash does not fit its texts")
        if row["prompt_hash"] != lookup_hash(namespace, edit.prompt):
            problems.append(f"edit {edit.id}: its prompt hash does not fit its prompt")
    return count, problems


def vector_problems(connection: Connection, namespace: str) -> tuple[int, list[str]]:
    """Count a namespace's vectors and find those that are missing, left over, misshapen or not unit."""
    problems: list[str] = []
    widths = {row[0]: row[1] for row in connection.execute(select(encoders.c.id, encoders.c.dimension))}
    first = edits.c.seq * (1 << ORDINAL_BITS)
    # the range alone says it, but PostgreSQL joins by ranges pair by pair; SQLite would look at all vectors for this
    same = (vectors.c.key // (1 << ORDINAL_BITS) == edits.c.seq,) if connection.dialect.name != "sqlite" else ()
    mine = (edits.c.namespace == namespace, CURRENT)
    has = (
        select(func.count()).select_from(vectors).where(vectors.c.key >= first, vectors.c.key < first + edits.c.texts)
    ).scalar_subquery()
    short = select(edits.c.id).where(*mine, has != edits.c.texts).limit(_MOST)
    problems += [f"edit {i} lacks a vector of one of its texts" for i in connection.execute(short).scalars()]
    after = (vectors.c.key >= first + edits.c.texts) & (vectors.c.key < first + (1 << ORDINAL_BITS))
    extra = select(edits.c.id).join_from(edits, vectors, and_(after, *same)).where(*mine).limit(_MOST)
    problems += [f"edit {i} has a vector of no text" for i in connection.execute(extra).scalars()]
    every = (
        select(edits.c.id, vectors.c.encoder, vectors.c.vector)
        .join_from(edits, vectors, and_(vectors.c.key >= first, vectors.c.key < first + edits.c.texts, *same))
        .where(*mine)
    )
    count = 0
    for rows in connection.execution_options(yield_per=5_000).execute(every).partitions():
        count += len(rows)
        bad = [row[0] for row in rows if len(row[2]) != 4 * widths.get(row[1], -1)]
        problems += [f"edit {i} has a vector of the wrong width or of no known encoder" for i in bad[:_MOST]]
        if not bad and len({row[1] for row in rows}) == 1:
            norms = np.linalg.norm(join_vectors(row[2] for row in rows), axis=1)
            off = np.flatnonzero(~(np.abs(norms - 1) < 1e-3))[:_MOST]
            problems += [f"edit {rows[i][0]} has a vector of length {norms[i]:.3g}, not 1" for i in off]
    return count, problems


def index_problems(connection: Connection, space: NamespaceIndex) -> tuple[int, list[str]]:
    """Count the rows of a namespace's vector index and find where it disagrees with the store."""
    problems: list[str] = []
    try:
        problems += space.problems(connection)
        space.refresh(connection)
    except Exception as error:  # whatever stops the index from being made is what was asked for
        return 0, [*problems, f"index: {error}"]
    index = space.searcher(lambda: connection)
    rows = len(index)
    expected = space.expected_rows(connection)
    if rows != expected:
        problems.append(f"the index has {rows} rows, the store has {expected} texts in force")
    for ids, matrix in space.sample(connection, _SAMPLE):
        scores, _ = index.search(matrix, 1)
        problems += [f"the index does not find vector {ids[i]}" for i in np.flatnonzero(scores[:, 0] < 0.999)[:_MOST]]
    return rows, problems
