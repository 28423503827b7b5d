"""``memedit models``: which language models there are, and what works with them."""

from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.options import command
from memedit.cli.output import Output
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session

app = typer.Typer(no_args_is_help=True, help="Which language models there are, and what works with them.")


@command(app, "list")
def list_models(session: "Session") -> None:
    """List the short names of models that ship as packages; paths and hub ids work as well."""
    from memedit.workflows.models import known_models

    rows = known_models()
    session.output.emit(
        rows,
        lambda out: out.table(
            ["name", "installed", "licence", "description"],
            [
                [", ".join(row.names), "yes" if row.installed else row.install, row.licence, row.description]
                for row in rows
            ],
        ),
    )


@command(app, "pull")
def pull(
    session: "Session",
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Aliases, paths or hub ids.")],
) -> None:
    """Make models ready: convert packaged GGUF files once, fetch hub models where a hub is reachable."""
    from memedit.workflows.models import pull_model

    ready = []
    for name in names:
        with session.output.working(f"preparing {name}"):
            ready.append(pull_model(name))
    session.output.emit(ready, lambda out: out.lines(f"{item.name}: {item.path}" for item in ready))


@command(app, "check")
def check(session: "Session", name: Annotated[str, typer.Argument(help="Alias, path or hub id.")]) -> None:
    """Say what of memedit works with a model, and which of its layers memedit would use."""
    from memedit.workflows.models import check

    with session.output.working(f"loading {name}"):
        report = plain(check(name))
    session.output.emit(report, lambda out: _show_check(out, report))


def _show_check(out: Output, report: dict[str, object]) -> None:
    out.table(["what", "value"], [[key, _cell(value)] for key, value in report.items()])


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
