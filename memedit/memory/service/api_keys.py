"""Keys that let a client use a memory through a server. Only a digest of each is kept."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from memedit.errors import FieldError, InputError
from memedit.memory.schema import api_keys
from memedit.memory.service.quotas import Quota, check_limit
from memedit.memory.stamps import from_micros, now_micros, to_micros
from memedit.memory.store.database import Database
from memedit.memory.validation import check_namespace, check_text, check_time
from memedit.memory.writer import Writer
from memedit.registry import unknown_name_message

_PREFIX = "mek"
STORE_WIDE = ""
"""What the change log has for a namespace where a change is not about one; no namespace can have this name."""


class Role(StrEnum):
    """What a key may do: ask the model, look at edits, change edits, everything."""

    GENERATE = "generate"
    READ = "read"
    EDIT = "edit"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept.

    ``namespaces`` None is every namespace; ``requests_per_minute`` None the server's limit. ``edits`` and
    ``tokens_per_minute`` are quotas, None is none. ``logged`` says whether its requests may stand in the request log.
    ``last_used_at`` is right to about a minute.
    """

    id: str
    name: str
    roles: frozenset[Role]
    namespaces: frozenset[str] | None
    requests_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    edits: int | None = None
    tokens_per_minute: int | None = None
    logged: bool = True
    last_used_at: datetime | None = None

    @property
    def quota(self) -> Quota:
        """Its limits."""
        return Quota(self.edits, self.requests_per_minute, self.tokens_per_minute)

    def usable(self, at: datetime) -> bool:
        """Whether it opens anything at this time."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


class ApiKeys:
    """The keys of a memory.

    A secret is 256 random bits, so one pass of SHA-256 keeps it: slow password hashes protect what people can guess.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        *,
        roles: Sequence[Role | str],
        namespaces: Sequence[str] | None = None,
        requests_per_minute: int | None = None,
        edits: int | None = None,
        tokens_per_minute: int | None = None,
        logged: bool = True,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; return it and its secret text, which is shown this once and kept nowhere.

        Args:
            name: whom it is for; audit entries show it.
            roles: what it may do.
            namespaces: where; None is everywhere.
            requests_per_minute: its own limit, instead of the server's.
            edits: how many edits, that are not withdrawn, it may have added.
            tokens_per_minute: how many it may have read and written, prompts and answers together.
            logged: its requests may stand in the request log.
            expires_at: it opens nothing from then on (timezone-aware).

        Raises:
            InputError: no role, an unknown one, no usable name or namespace, or a limit below 1.
            StoreError: it could not be written.
        """
        chosen = _roles(roles)
        spaces = None if namespaces is None else sorted({check_namespace(space) for space in namespaces})
        if spaces == []:
            raise InputError("namespaces is an empty list: give at least one, or None for all")
        limits = _limits(
            {"requests_per_minute": requests_per_minute, "edits": edits, "tokens_per_minute": tokens_per_minute}
        )
        end = check_time(expires_at, "expires_at")
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        row = {
            "id": key_id,
            "name": check_text(name, "name", limit=200),
            "digest": _digest(secret),
            "roles": json.dumps(chosen),
            "namespaces": None if spaces is None else json.dumps(spaces, ensure_ascii=False),
            **limits,
            "logged": int(logged),
            "last_used_at": None,
            "created_at": now_micros(),
            "expires_at": None if end is None else to_micros(end),
            "revoked_at": None,
        }
        with self._database.write() as connection:
            connection.execute(insert(api_keys), [row])
            writer = Writer(self._database, connection)
            writer.note(STORE_WIDE, "key created", key_id)
            writer.flush()
        return _api_key(row), f"{_PREFIX}_{key_id}_{secret}"

    def list(self) -> list[ApiKey]:
        """Return every key, revoked ones too, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).mappings()
            return [_api_key(row) for row in rows]

    def find(self, text: str) -> ApiKey | None:
        """Return the key with this secret text, revoked or not; None when there is none."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        if prefix != _PREFIX or not key_id or not secret or not text.isascii():
            return None
        with self._database.read() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).mappings().first()
        if row is None or not hmac.compare_digest(row["digest"], _digest(secret)):
            return None
        return _api_key(row)

    def get(self, key_id: str) -> ApiKey:
        """Return a key, revoked or not.

        Raises:
            InputError: there is no key with this id.
        """
        with self._database.read() as connection:
            return _api_key(_row(connection, key_id))

    def change(self, key_id: str, *, logged: bool | None = None, **limits: int | None) -> ApiKey:
        """Set limits of a key, and whether its requests may be logged; what is left out stays.

        Args:
            key_id: the key.
            logged: see :meth:`create`; None leaves it.
            limits: of ``edits``, ``requests_per_minute``, ``tokens_per_minute``; None is no limit.

        Raises:
            InputError: there is no key with this id, or a number that no limit can be.
            StoreError: it could not be written.
        """
        values = _limits(limits) | ({} if logged is None else {"logged": int(logged)})
        with self._database.write() as connection:
            row = _row(connection, key_id)
            if any(row[name] != value for name, value in values.items()):
                connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(**values))
                writer = Writer(self._database, connection)
                writer.note(STORE_WIDE, "key changed", key_id)
                writer.flush()
        return _api_key({**row, **values})

    def used(self, times: Mapping[str, datetime]) -> None:
        """Keep when keys, by id, were last used. It is no change of the memory: its revision stays."""
        if not times:
            return
        c = api_keys.c
        with self._database.write() as connection:
            for key_id, when in times.items():
                at = to_micros(when)
                later = (c.id == key_id) & (c.last_used_at.is_(None) | (c.last_used_at < at))
                connection.execute(update(api_keys).where(later).values(last_used_at=at))

    def revoke(self, key_id: str) -> ApiKey:
        """Let a key open nothing from now on; twice is as once.

        Raises:
            InputError: there is no key with this id.
            StoreError: it could not be written.
        """
        mine = api_keys.c.id == key_id
        with self._database.write() as connection:
            row = _row(connection, key_id)
            if row["revoked_at"] is not None:
                return _api_key(row)
            now = now_micros()
            connection.execute(update(api_keys).where(mine).values(revoked_at=now))
            writer = Writer(self._database, connection)
            writer.note(STORE_WIDE, "key revoked", key_id)
            writer.flush()
        return _api_key({**row, "revoked_at": now})


def _row(connection: Connection, key_id: str) -> Mapping[Any, Any]:
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).mappings().first()
    if row is None:
        raise InputError(f"no API key has the id {key_id!r}; list them with `memedit keys list`")
    return row


def _limits(given: Mapping[str, int | None]) -> dict[str, int | None]:
    least = {"requests_per_minute": 1, "edits": 0, "tokens_per_minute": 1}
    return {name: check_limit(value, name, least[name]) for name, value in given.items()}


def _roles(roles: Sequence[Role | str]) -> list[str]:
    known = [role.value for role in Role]
    for role in roles:
        if role not in known:
            raise FieldError("roles", unknown_name_message("role", str(role), known))
    if not roles:
        raise FieldError("roles", f"is empty; give at least one of {', '.join(known)}")
    return sorted({str(role) for role in roles})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _api_key(row: Mapping[Any, Any]) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        roles=frozenset(Role(role) for role in json.loads(row["roles"])),
        namespaces=None if row["namespaces"] is None else frozenset(json.loads(row["namespaces"])),
        requests_per_minute=row["requests_per_minute"],
        created_at=from_micros(row["created_at"]),
        expires_at=_time(row["expires_at"]),
        revoked_at=_time(row["revoked_at"]),
        edits=row["edits"],
        tokens_per_minute=row["tokens_per_minute"],
        logged=bool(row["logged"]),
        last_used_at=_time(row["last_used_at"]),
    )


def _time(value: int | None) -> datetime | None:
    return None if value is None else from_micros(value)
