"""``memedit index``: check, rebuild and describe a memory's vector index."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.failures import FAILED
from memedit.cli.options import Needs, command, read_time
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session

app = typer.Typer(no_args_is_help=True, help="Check, rebuild and describe a memory and its vector index.")


@command(app, "stats", Needs.MEMORY)
def stats(session: "Session") -> None:
    """Describe the memory: edits by state, versions, encoder, index, size on disk."""
    found = plain(session.memory().stats())
    session.output.emit(found, lambda out: out.table(["what", "value"], [[k, str(v)] for k, v in found.items()]))


@command(app, "verify", Needs.MEMORY)
def verify(session: "Session") -> None:
    """Check that database, vectors and index agree; exit code 1 when something is wrong."""
    with session.output.working("verifying"):
        report = session.memory().verify()
    document = {**plain(report), "ok": report.ok}
    summary = f"{report.edits} edits, {report.vectors} vectors, {report.index_rows} index rows"
    verdict = [f"  - {problem}" for problem in report.problems] or ["no problems found"]
    session.output.emit(document, lambda out: out.lines([summary, *verdict]))
    if not report.ok:
        raise typer.Exit(FAILED)


@command(app, "rebuild", Needs.MEMORY)
def rebuild(session: "Session") -> None:
    """Build the index again from the database, encoding what another encoder had encoded."""
    memory = session.memory()
    with session.output.progress("rebuilding the index") as progress:
        rows = memory.rebuild(progress=progress)
    session.output.emit({"index_rows": rows}, lambda out: out.line(f"index rebuilt: {rows} rows"))


@command(app, "prepare", Needs.MEMORY | Needs.SCOPE | Needs.MODEL)
def prepare(session: "Session") -> None:
    """Make and keep what the adapter needs of each edit now, not when an edit first fires (RECIPE, SERAC)."""
    model = session.model()
    with session.output.progress("preparing edits") as progress:
        count = model.prepare(progress=progress)
    session.output.emit({"prepared": count}, lambda out: out.line(f"{count} edits prepared"))


@command(app, "vacuum", Needs.MEMORY)
def vacuum(
    session: "Session",
    forget_before: Annotated[
        datetime | None,
        typer.Option(
            parser=read_time,
            metavar="TIME",
            help="Also erase for good what was withdrawn or replaced before this time, in all namespaces.",
        ),
    ] = None,
) -> None:
    """Give unused space back; with --forget-before erase old versions and withdrawn edits for good."""
    memory = session.memory()
    before = memory.stats().database_bytes
    memory.vacuum(forget_before=forget_before)
    found = {"bytes_before": before, "bytes": memory.stats().database_bytes}
    session.output.emit(found, lambda out: out.line(f"{found['bytes_before']} -> {found['bytes']} bytes"))
