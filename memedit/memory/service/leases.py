"""Leases: work that one process at a time may do, held for a time and lost when its holder dies."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from memedit.memory.schema import leases
from memedit.memory.stamps import from_micros, now_micros
from memedit.memory.store.database import Database


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds a lease, and until when (UTC)."""

    name: str
    owner: str
    expires_at: datetime


def holder(connection: Connection, namespace: str, name: str) -> Lease | None:
    """Who holds the lease now."""
    query = select(leases.c.owner, leases.c.expires_at).where(leases.c.namespace == namespace, leases.c.name == name)
    row = connection.execute(query).first()
    if row is None or row.expires_at <= now_micros():
        return None
    return Lease(name, row.owner, from_micros(row.expires_at))


def acquire(database: Database, namespace: str, name: str, owner: str, seconds: float) -> bool:
    """Take or prolong a lease unless another owner holds it; what is read cannot change under the write lock."""
    with database.write() as connection:
        found = holder(connection, namespace, name)
        if found is not None and found.owner != owner:
            return False
        connection.execute(delete(leases).where(leases.c.namespace == namespace, leases.c.name == name))
        until = now_micros() + round(seconds * 1_000_000)
        values = {"namespace": namespace, "name": name, "owner": owner, "expires_at": until}
        connection.execute(insert(leases), [values])
    return True


def release(database: Database, namespace: str, name: str, owner: str) -> None:
    """Give a lease back, if this owner holds it."""
    mine = (leases.c.namespace == namespace, leases.c.name == name, leases.c.owner == owner)
    with database.write() as connection:
        connection.execute(delete(leases).where(*mine))
