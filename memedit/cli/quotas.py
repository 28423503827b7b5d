"""``memedit quotas``: how much a namespace may have; those of keys are set with ``memedit keys``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.keys import limits_of
from memedit.cli.options import Needs, command

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.memory import Quota

app = typer.Typer(no_args_is_help=True, help="Limits of namespaces: edits, and requests and tokens a minute.")


@command(app, "list", Needs.MEMORY)
def list_quotas(session: "Session") -> None:
    """List the namespaces that have limits, and how many edits each has."""
    memory = session.memory()
    quotas, counts = memory.quotas.all(), memory.counts()
    there = {name: sum(n for state, n in counts.get(name, {}).items() if state != "retired") for name in quotas}
    rows = [[name, str(there[name]), limits_of(quota)] for name, quota in quotas.items()]
    documents = [_document(name, quota) | {"used": there[name]} for name, quota in quotas.items()]
    session.output.emit(documents, lambda out: out.table(["namespace", "edits", "limits"], rows))


@command(app, "set", Needs.MEMORY)
def set_quota(
    session: "Session",
    *,
    max_edits: Annotated[int | None, typer.Option(min=0, help="Edits that are not withdrawn.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="At each server.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="The same, prompts and answers.")] = None,
) -> None:
    """Set all limits of the namespace; those that are not named are none. Edits that are there already stay."""
    from memedit.memory import Quota

    namespace, quota = session.settings.namespace, Quota(max_edits, requests_per_minute, tokens_per_minute)
    session.memory(absent="make").quotas.set(namespace, quota)
    session.output.emit(_document(namespace, quota), lambda out: out.line(f"{namespace}: {limits_of(quota)}"))


def _document(namespace: str, quota: "Quota") -> dict[str, Any]:
    return {"namespace": namespace} | {name: getattr(quota, name) for name in type(quota).__slots__}
