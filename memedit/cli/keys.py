"""``memedit keys``: the API keys with which clients of a server use a memory."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.options import Needs, command
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.memory import ApiKey

app = typer.Typer(no_args_is_help=True, help="API keys of a server's clients; only a digest of each is kept.")


@command(app, "create", Needs.MEMORY)
def create(
    session: "Session",
    *,
    name: Annotated[str, typer.Argument(help="Whom it is for; the audit log shows it.")],
    role: Annotated[
        list[str], typer.Option(help="generate, read, edit (and read) or admin (everything); may be repeated.")
    ],
    allow: Annotated[
        list[str] | None, typer.Option(help="Namespace that it opens, may be repeated. [default: all]")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Its own limit.")] = None,
    days: Annotated[float | None, typer.Option(min=0.0, help="Days until it expires. [default: never]")] = None,
) -> None:
    """Make a key and print it: this once, it is kept nowhere."""
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    key, secret = session.memory(absent="make").keys.create(
        name, roles=role, namespaces=allow, requests_per_minute=requests_per_minute, expires_at=expires
    )
    session.output.emit(_document(key) | {"key": secret}, lambda out: out.line(secret))
    session.output.note("keep it now: it cannot be shown again")


@command(app, "list", Needs.MEMORY)
def list_keys(session: "Session") -> None:
    """List the keys, without their secrets."""
    keys = session.memory().keys.list()
    columns = ["id", "name", "roles", "namespaces", "created", "state"]

    def cells(key: "ApiKey") -> list[str]:
        spaces = "all" if key.namespaces is None else ", ".join(sorted(key.namespaces))
        created = f"{key.created_at:%Y-%m-%d %H:%M}"
        return [key.id, key.name, ", ".join(sorted(key.roles)), spaces, created, _state(key)]

    session.output.emit([_document(key) for key in keys], lambda out: out.table(columns, [cells(key) for key in keys]))


@command(app, "revoke", Needs.MEMORY)
def revoke(session: "Session", *, key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")]) -> None:
    """Let a key open nothing from now on, on every server of this memory."""
    key = session.memory().keys.revoke(key_id)
    session.output.emit(_document(key), lambda out: out.line(f"revoked {key.id} ({key.name})"))


def _state(key: "ApiKey") -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "usable" if key.usable(datetime.now(UTC)) else "expired"


def _document(key: "ApiKey") -> dict[str, Any]:
    fields = {name: getattr(key, name) for name in type(key).__slots__}
    sets = {"roles": sorted(key.roles), "namespaces": None if key.namespaces is None else sorted(key.namespaces)}
    found: dict[str, Any] = plain(fields | sets | {"state": _state(key)})
    return found
