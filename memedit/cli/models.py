"""``memedit models``: which language models there are, and what works with them."""

from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.options import command
from memedit.cli.output import Output
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.models.check import ModelReport

app = typer.Typer(no_args_is_help=True, help="Which language models there are, and what works with them.")


@command(app, "list")
def list_models(session: "Session") -> None:
    """List the short names of models and sentence encoders that ship as packages; paths and hub ids work as well."""
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
    """Make models ready: convert packaged models and encoders once, fetch hub models where a hub is reachable."""
    from memedit.workflows.models import pull_model

    ready = []
    for name in names:
        with session.output.progress(f"preparing {name}") as progress:
            ready.append(pull_model(name, lambda done, total: progress(done >> 20, total >> 20)))
    session.output.emit(ready, lambda out: out.lines(f"{item.name}: {item.path}" for item in ready))


@command(app, "check")
def check(session: "Session", name: Annotated[str, typer.Argument(help="Alias, path or hub id.")]) -> None:
    """Say what of memedit works with a model, and which of its layers memedit would use."""
    from memedit.workflows.models import check as run_check

    with session.output.working(f"loading {name}"):
        report = run_check(name)
    session.output.emit({**plain(report), "usable": report.usable}, lambda out: _show_check(out, report))


def _show_check(out: Output, report: "ModelReport") -> None:
    found = plain(report)
    works, notes = found.pop("works"), found.pop("notes")
    out.table(["what", "value"], [[key, _cell(value)] for key, value in found.items()])
    out.line()
    out.table(["feature", "works", "how it went"], [[key, "yes" if works[key] else "no", notes[key]] for key in works])
    out.line()
    out.line("memedit works with this model" if report.usable else "memedit cannot be used with this model")


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
