"""``memedit bench``: measure memedit beside its own reference, in the same run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session

app = typer.Typer(
    no_args_is_help=True, help="Benchmarks; each prints a ratio to its reference, measured in the same run."
)

Seed = Annotated[int, typer.Option(help="Seed of what is made up.")]


@command(app, "ingest", Needs.ENCODER)
def ingest(
    session: "Session",
    *,
    rows: Annotated[int, typer.Option(min=1, help="Edits to import.")] = 10_000,
    source: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File of edits. [default: made-up facts]")
    ] = None,
    vector_rows: Annotated[int, typer.Option(min=0, help="Edits to add with vectors given; 0 for none.")] = 20_000,
    seed: Seed = 0,
) -> None:
    """Import edits, encoding included, beside the bare encoder; and with vectors given."""
    from memedit.workflows.bench_ingest import run

    encoder = session.settings.encoder
    with session.output.progress("importing") as progress:
        found = run(rows, encoder=encoder, source=source, vector_rows=vector_rows, seed=seed, progress=progress)
    emit(session.output, found)


def emit(output: Output, found: Mapping[str, Any]) -> None:
    """Print a benchmark's figures, or its document."""
    output.emit(found, lambda out: out.table(["what", "value"], list(_rows(plain(found)))))


def _rows(found: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{key}.")
        else:
            rows.append([prefix + key, f"{value:.4g}" if isinstance(value, float) else str(value)])
    return rows
