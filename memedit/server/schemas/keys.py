"""Bodies of keys and quotas."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from memedit.memory import ApiKey, Quota, Role
from memedit.server.schemas.common import In, Out, Time

Edits = Annotated[int | None, Field(ge=0, le=2**31 - 1, description="Edits that are not withdrawn; null: no limit.")]
Requests = Annotated[int | None, Field(ge=1, le=2**31 - 1, description="Null: no limit, or of a key the server's.")]
Tokens = Annotated[int | None, Field(ge=1, le=2**31 - 1, description="Of prompts and answers; null: no limit.")]


class QuotaIn(In):
    """Limits; what is left out or null is none."""

    edits: Edits = None
    requests_per_minute: Requests = None
    tokens_per_minute: Tokens = None

    def quota(self) -> Quota:
        """Return them."""
        return Quota(self.edits, self.requests_per_minute, self.tokens_per_minute)


class QuotaOut(Out):
    """Limits; null is none. Rates are those of one server."""

    edits: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None

    @classmethod
    def of(cls, quota: Quota) -> "QuotaOut":
        """Return a quota as a body."""
        return cls(**{name: getattr(quota, name) for name in Quota.__slots__})


class QuotaUse(Out):
    """What is used: edits as they are now; requests and tokens of about the last minute, null where no limit counts."""

    edits: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class KeyIn(In):
    """A key to be made. ``namespaces`` null is every one; ``logged`` false keeps its requests out of the log."""

    name: str = Field(min_length=1, max_length=200)
    roles: list[Role] = Field(min_length=1, max_length=4)
    namespaces: list[Annotated[str, Field(min_length=1, max_length=255)]] | None = Field(
        default=None, min_length=1, max_length=1_000
    )
    edits: Edits = None
    requests_per_minute: Requests = None
    tokens_per_minute: Tokens = None
    logged: bool = True
    expires_at: Time | None = None


class KeyPatch(In):
    """Limits to set, null is none, and whether requests may be logged; what is left out stays."""

    edits: Edits = None
    requests_per_minute: Requests = None
    tokens_per_minute: Tokens = None
    logged: bool = True

    def changes(self) -> dict[str, Any]:
        """Return the fields that the body names."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class KeyOut(Out):
    """A key, without its secret. ``last_used_at`` is right to about a minute; ``used`` where there is a quota."""

    object: Literal["key"] = "key"
    id: str
    name: str
    roles: list[Role]
    namespaces: list[str] | None
    state: Literal["usable", "expired", "revoked"]
    edits: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    used: QuotaUse | None = None
    logged: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey, used: QuotaUse | None = None) -> "KeyOut":
        """Return a key as a body."""
        now = datetime.now(UTC)
        state = "revoked" if key.revoked_at is not None else "usable" if key.usable(now) else "expired"
        fields = {name: getattr(key, name) for name in ApiKey.__slots__}
        sets = {"roles": sorted(key.roles), "namespaces": None if key.namespaces is None else sorted(key.namespaces)}
        return cls(**fields | sets | {"state": state, "used": used})


class NewKeyOut(KeyOut):
    """A key that was made; ``secret`` is shown this once and kept nowhere."""

    secret: str


class KeyList(Out):
    """All keys, oldest first."""

    object: Literal["list"] = "list"
    data: list[KeyOut]
