"""What is kept beside the edits: artefacts of adapters and scopes, and a namespace's settings."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select

from memedit.errors import InputError
from memedit.memory.reading import CURRENT, chunks, current_rows
from memedit.memory.schema import artefacts, edits, settings
from memedit.memory.store.database import Database
from memedit.memory.writer import Writer


def put_artefacts(database: Database, namespace: str, kind: str, fingerprint: str, blobs: Mapping[str, bytes]) -> None:
    """Store artefacts by edit id in one transaction, in place of earlier ones."""
    for edit_id, blob in blobs.items():
        if not isinstance(blob, bytes):
            raise InputError(f"artefact of edit {edit_id}: expected bytes, got {type(blob).__name__}")
    with database.write() as connection:
        found = current_rows(connection, namespace, list(blobs))
        rows = [
            {"seq": found[edit_id]["seq"], "kind": kind, "fingerprint": fingerprint, "data": blob}
            for edit_id, blob in blobs.items()
        ]
        mine = (artefacts.c.kind == kind) & (artefacts.c.fingerprint == fingerprint)
        for part in chunks([row["seq"] for row in rows]):
            connection.execute(delete(artefacts).where(mine, artefacts.c.seq.in_(part)))
        if rows:
            connection.execute(insert(artefacts), rows)
        writer = Writer(database, connection)
        writer.note(namespace, "artefacts", kind)
        writer.flush()


def get_artefacts(
    connection: Connection, namespace: str, kind: str, fingerprint: str, ids: Sequence[str]
) -> dict[str, bytes]:
    """The artefacts of this kind and fingerprint that edits of the namespace have, by edit id."""
    found: dict[str, bytes] = {}
    for part in chunks(list(dict.fromkeys(ids))):
        query = (
            select(edits.c.id, artefacts.c.data)
            .join(artefacts, artefacts.c.seq == edits.c.seq)
            .where(edits.c.id.in_(part), edits.c.namespace == namespace, CURRENT)
            .where(artefacts.c.kind == kind, artefacts.c.fingerprint == fingerprint)
        )
        found.update((row[0], row[1]) for row in connection.execute(query))
    return found


def get_setting(connection: Connection, namespace: str, key: str) -> str | None:
    """A setting of the namespace, None when it was never set."""
    query = select(settings.c.value).where(settings.c.namespace == namespace, settings.c.key == key)
    return connection.execute(query).scalar()


def set_setting(database: Database, namespace: str, key: str, value: str | None) -> None:
    """Set a setting of the namespace; None removes it. Setting what is set already changes nothing."""
    with database.write() as connection:
        if get_setting(connection, namespace, key) == value:
            return
        connection.execute(delete(settings).where(settings.c.namespace == namespace, settings.c.key == key))
        if value is not None:
            connection.execute(insert(settings), [{"namespace": namespace, "key": key, "value": value}])
        writer = Writer(database, connection)
        writer.note(namespace, "setting", key)
        writer.flush()
