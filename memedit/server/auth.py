"""Who is asking, and what they may do."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import HTTPBearer

from memedit.memory import ApiKey, ApiKeys, Role
from memedit.memory.validation import check_namespace
from memedit.server.problems import ApiError
from memedit.server.rates import RateLimiter, rate_name, rate_refusal

_IMPLIED = {Role.EDIT: frozenset({Role.READ}), Role.ADMIN: frozenset(Role)}
_bearer = HTTPBearer(auto_error=False, description="An API key made by `memedit keys create`.")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking.

    ``namespaces`` None is every namespace; ``requests_per_minute`` None the server's limit, ``tokens_per_minute`` None
    is none. ``logged`` says whether their requests may stand in the request log.
    """

    name: str
    roles: frozenset[Role]
    namespaces: frozenset[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    logged: bool = True

    @classmethod
    def of(cls, key: ApiKey) -> "Principal":
        """Return who has a key."""
        name = f"{key.name}/{key.id}"
        return cls(name, key.roles, key.namespaces, key.requests_per_minute, key.tokens_per_minute, key.logged)

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


class Authenticator:
    """Turns the Authorization header into a principal, and holds each to their rate.

    Args:
        keys: the memory's keys; None lets everyone do everything.
        requests_per_minute: limit of keys that have none of their own; 0 is no limit.
        limiter: counts requests; one is made when none is given.
    """

    def __init__(self, keys: ApiKeys | None, requests_per_minute: int, limiter: RateLimiter | None = None) -> None:
        self._keys, self._limit = keys, requests_per_minute
        self.limiter = limiter or RateLimiter()
        self._uses: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def principal(self, secret: str | None) -> Principal:
        """Return who has this key.

        Raises:
            ApiError: 401 without a usable key, 429 when they ask too often.
        """
        if self._keys is None:
            return EVERYONE
        now = datetime.now(UTC)
        found = self._keys.find(secret) if secret else None
        if found is None or not found.usable(now):
            said = "no API key was given" if not secret else "this API key is unknown, expired or revoked"
            message = f"{said}; send one as 'Authorization: Bearer mek_...'"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        with self._lock:
            self._uses[found.id] = now
        who = Principal.of(found)
        limit = self._limit if who.requests_per_minute is None else who.requests_per_minute
        wait = self.limiter.take(rate_name("key", who.name, "requests_per_minute"), limit) if limit else 0.0
        if wait > 0:
            raise rate_refusal("key", who.name, "requests_per_minute", limit, wait)
        return who

    def recent_uses(self) -> dict[str, datetime]:
        """Return when keys, by id, were last used, as far as that is not written yet."""
        with self._lock:
            return dict(self._uses)

    def take_uses(self) -> dict[str, datetime]:
        """Return when keys, by id, were last used since this was last asked."""
        with self._lock:
            uses, self._uses = self._uses, {}
        return uses

    def give_back(self, uses: Mapping[str, datetime]) -> None:
        """Remember uses that could not be written."""
        with self._lock:
            self._uses = {**uses, **self._uses}


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
        state = request.app.state.memedit
        chosen = chosen_namespace(who, asked, state.settings.namespace)
        state.quotas.admit(who, chosen)
        return Access(who, chosen)

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
