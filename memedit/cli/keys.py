"""``memedit keys``: the API keys with which clients of a server use a memory."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.options import Needs, command
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.memory import ApiKey, Quota

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
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Tokens of prompts and answers.")] = None,
    max_edits: Annotated[int | None, typer.Option(min=0, help="Edits that it may have in force.")] = None,
    log: Annotated[bool, typer.Option("--log/--no-log", help="Its requests may stand in the request log.")] = True,
    days: Annotated[float | None, typer.Option(min=0.0, help="Days until it expires. [default: never]")] = None,
) -> None:
    """Make a key and print it: this once, it is kept nowhere."""
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    key, secret = session.memory(absent="make").keys.create(
        name,
        roles=role,
        namespaces=allow,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        edits=max_edits,
        logged=log,
        expires_at=expires,
    )
    session.output.emit(_document(key) | {"key": secret}, lambda out: out.line(secret))
    session.output.note("keep it now: it cannot be shown again")


@command(app, "list", Needs.MEMORY)
def list_keys(session: "Session") -> None:
    """List the keys, without their secrets."""
    keys = session.memory().keys.list()
    columns = ["id", "name", "roles", "namespaces", "created", "last used", "state"]

    def cells(key: "ApiKey") -> list[str]:
        spaces = "all" if key.namespaces is None else ", ".join(sorted(key.namespaces))
        created = f"{key.created_at:%Y-%m-%d %H:%M}"
        used = "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}"
        return [key.id, key.name, ", ".join(sorted(key.roles)), spaces, created, used, _state(key)]

    session.output.emit([_document(key) for key in keys], lambda out: out.table(columns, [cells(key) for key in keys]))


@command(app, "change", Needs.MEMORY)
def change(
    session: "Session",
    *,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")],
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="0 takes the server's limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=0, help="0 is no limit.")] = None,
    max_edits: Annotated[int | None, typer.Option(min=-1, help="-1 is no limit.")] = None,
    log: Annotated[bool | None, typer.Option("--log/--no-log", help="Its requests may be logged.")] = None,
) -> None:
    """Set limits of a key; those that are not named stay."""
    rates = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    limits = {name: value or None for name, value in rates.items() if value is not None}
    if max_edits is not None:
        limits["edits"] = None if max_edits < 0 else max_edits
    key = session.memory().keys.change(key_id, logged=log, **limits)
    session.output.emit(_document(key), lambda out: out.line(f"{key.id} ({key.name}): {limits_of(key.quota)}"))


@command(app, "revoke", Needs.MEMORY)
def revoke(session: "Session", *, key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")]) -> None:
    """Let a key open nothing from now on, on every server of this memory."""
    key = session.memory().keys.revoke(key_id)
    session.output.emit(_document(key), lambda out: out.line(f"revoked {key.id} ({key.name})"))


def limits_of(quota: "Quota") -> str:
    """Return limits as people read them."""
    names = {"edits": "edits", "requests_per_minute": "requests a minute", "tokens_per_minute": "tokens a minute"}
    set_ones = {said: getattr(quota, name) for name, said in names.items()}
    return ", ".join(f"{value:,} {said}" for said, value in set_ones.items() if value is not None) or "no limit"


def _state(key: "ApiKey") -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "usable" if key.usable(datetime.now(UTC)) else "expired"


def _document(key: "ApiKey") -> dict[str, Any]:
    fields = {name: getattr(key, name) for name in type(key).__slots__}
    sets = {"roles": sorted(key.roles), "namespaces": None if key.namespaces is None else sorted(key.namespaces)}
    found: dict[str, Any] = plain(fields | sets | {"state": _state(key)})
    return found
