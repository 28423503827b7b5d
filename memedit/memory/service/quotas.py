"""How much a namespace, or a key, may have: edits in force, requests and tokens a minute."""

from sqlalchemy import delete, insert, select

from memedit.errors import FieldError
from memedit.memory.schema import api_keys, quotas
from memedit.memory.store.database import Database
from memedit.memory.validation import check_namespace
from memedit.memory.writer import Quota, Writer, added_by, quota_of, quota_row

_MOST = 2**31 - 1


def check_limit(value: int | None, field: str, least: int = 1) -> int | None:
    """Return a limit when it can be one.

    Raises:
        FieldError: it is below ``least``, or more than can be stored.
    """
    if value is not None and not least <= value <= _MOST:
        raise FieldError(field, f"{value} is outside {least}..{_MOST:,}; leave it out for no limit")
    return value


class Quotas:
    """The limits of namespaces. Those of keys are kept with the keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Quota]:
        """Return the quota of each namespace that has one."""
        with self._database.read() as connection:
            rows = connection.execute(select(quotas).order_by(quotas.c.namespace)).mappings()
            return {row["namespace"]: quota_row(row) for row in rows}

    def of(self, namespace: str) -> Quota:
        """Return a namespace's quota; one without limits where none was set."""
        with self._database.read() as connection:
            return quota_of(connection, namespace)

    def set(self, namespace: str, quota: Quota) -> None:
        """Set a namespace's quota; one without limits removes it. What is there already stays.

        Raises:
            FieldError: no name of a namespace, or no number that a limit can be.
            StoreError: it could not be written.
        """
        check_namespace(namespace)
        check_limit(quota.edits, "edits", 0)
        check_limit(quota.requests_per_minute, "requests_per_minute")
        check_limit(quota.tokens_per_minute, "tokens_per_minute")
        with self._database.write() as connection:
            if quota_of(connection, namespace) == quota:
                return
            connection.execute(delete(quotas).where(quotas.c.namespace == namespace))
            if quota:
                values = {name: getattr(quota, name) for name in Quota.__slots__}
                connection.execute(insert(quotas), [{"namespace": namespace, **values}])
            writer = Writer(self._database, connection)
            writer.note(namespace, "quota")
            writer.flush()

    def edits_by_key(self) -> dict[str, int]:
        """Return how many edits that are not withdrawn each key added, by the key's id; keys with a limit only."""
        with self._database.read() as connection:
            limited = connection.execute(select(api_keys).where(api_keys.c.edits.is_not(None))).mappings().all()
            return {row["id"]: added_by(connection, f"{row['name']}/{row['id']}") for row in limited}


__all__ = ["Quota", "Quotas", "check_limit"]
