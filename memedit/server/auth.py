"""Who is asking, and what they may do."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import HTTPBearer

from memedit.memory import ApiKeys, Role
from memedit.memory.validation import check_namespace
from memedit.server.problems import ApiError

_IMPLIED = {Role.EDIT: frozenset({Role.READ}), Role.ADMIN: frozenset(Role)}
_bearer = HTTPBearer(auto_error=False, description="An API key made by `memedit keys create`.")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. ``namespaces`` None is every namespace; ``requests_per_minute`` None the server's limit."""

    name: str
    roles: frozenset[Role]
    namespaces: frozenset[str] | None = None
    requests_per_minute: int | None = None

    def may(self, role: Role) -> bool:
        """Whether this role is one of theirs, or implied by one (edit implies read, admin everything)."""
        return any(role == own or role in _IMPLIED.get(own, ()) for own in self.roles)

    def check_namespace(self, namespace: str) -> str:
        """Return the namespace when it is one of theirs.

        Raises:
            ApiError: 403, it is not.
        """
        if self.namespaces is not None and namespace not in self.namespaces:
            raise ApiError(403, f"this key has no access to namespace {namespace!r}", code="namespace_not_allowed")
        return namespace


EVERYONE = Principal("anonymous", frozenset({Role.ADMIN}))
"""Who asks a server that wants no keys."""


class RateLimiter:
    """Token buckets by name: each holds up to a tenth of a minute's requests and refills steadily."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, name: str, per_minute: int) -> float:
        """Take one request from the bucket; return 0, or the seconds until there is one when it is empty."""
        now, size = self._clock(), max(1.0, per_minute / 10)
        with self._lock:
            level, since = self._buckets.get(name, (size, now))
            level = min(size, level + (now - since) * per_minute / 60)
            if level < 1:
                return (1 - level) * 60 / per_minute
            self._buckets[name] = (level - 1, now)
            return 0.0


class Authenticator:
    """Turns the Authorization header into a principal, and holds each to their rate.

    Args:
        keys: the memory's keys; None lets everyone do everything.
        requests_per_minute: limit of keys that have none of their own; 0 is no limit.
    """

    def __init__(self, keys: ApiKeys | None, requests_per_minute: int) -> None:
        self._keys, self._limit = keys, requests_per_minute
        self._limiter = RateLimiter()

    def principal(self, secret: str | None) -> Principal:
        """Return who has this key.

        Raises:
            ApiError: 401 without a usable key, 429 when they ask too often.
        """
        if self._keys is None:
            return EVERYONE
        found = self._keys.find(secret) if secret else None
        if found is None or not found.usable(datetime.now(UTC)):
            said = "no API key was given" if not secret else "this API key is unknown, expired or revoked"
            message = f"{said}; send one as 'Authorization: Bearer mek_...'"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        who = Principal(f"{found.name}/{found.id}", found.roles, found.namespaces, found.requests_per_minute)
        limit = self._limit if who.requests_per_minute is None else who.requests_per_minute
        wait = self._limiter.take(who.name, limit) if limit else 0.0
        if wait > 0:
            headers = {"Retry-After": str(max(1, round(wait)))}
            raise ApiError(429, f"more than {limit} requests a minute", code="rate_limited", headers=headers)
        return who


def require(role: Role) -> Any:
    """Return the dependency that lets a request in when its key has ``role``."""

    async def principal(request: Request, _: Annotated[Any, Security(_bearer)]) -> Principal:
        who: Principal = request.state.principal  # see Gate
        if not who.may(role):
            raise ApiError(403, f"this needs a key with the role {role.value!r}", code="role_missing")
        return who

    return Depends(principal)


Generator = Annotated[Principal, require(Role.GENERATE)]
Reader = Annotated[Principal, require(Role.READ)]
Editor = Annotated[Principal, require(Role.EDIT)]
Admin = Annotated[Principal, require(Role.ADMIN)]


@dataclass(frozen=True, slots=True)
class Access:
    """A principal, and the namespace this request is about."""

    who: Principal
    namespace: str


NamespaceQuery = Annotated[
    str | None, Query(max_length=255, description="Without it, the key's only one, else the server's.")
]
NamespaceHeader = Annotated[str | None, Header(max_length=255, description="The same, for clients that set headers.")]


def _access(role: Role) -> Any:
    """Return the dependency that lets a request into the namespace it names."""

    async def access(
        request: Request,
        who: Annotated[Principal, require(role)],
        namespace: Annotated[
            str | None, Query(max_length=255, description="The key's only one, or the server's.")
        ] = None,
        x_memedit_namespace: Annotated[
            str | None, Header(description="The same, for clients that set headers.")
        ] = None,
    ) -> Access:
        asked = namespace if namespace is not None else x_memedit_namespace
        return Access(who, chosen_namespace(who, asked, request.app.state.memedit.settings.namespace))

    return Depends(access)


ReadAccess = Annotated[Access, _access(Role.READ)]
EditAccess = Annotated[Access, _access(Role.EDIT)]
AdminAccess = Annotated[Access, _access(Role.ADMIN)]


def chosen_namespace(who: Principal, asked: str | None, default: str) -> str:
    """Return the namespace of a request: the one asked for, the key's only one, or the server's.

    Raises:
        ApiError: 403 when the key has no access to it.
        FieldError: it cannot be the name of one.
    """
    if asked is None:
        only = who.namespaces is not None and len(who.namespaces) == 1
        asked = next(iter(who.namespaces)) if only and who.namespaces is not None else default
    return who.check_namespace(check_namespace(asked))
