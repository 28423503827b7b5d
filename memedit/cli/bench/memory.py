"""``memedit bench``: what grows with the number of edits in a memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.bench.base import Minutes, Seed, app
from memedit.cli.figures import emit
from memedit.cli.options import Needs, command

if TYPE_CHECKING:
    from memedit.cli.session import Session


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
    from memedit.bench.ingest import run

    encoder = session.settings.encoder
    with session.output.progress("importing") as progress:
        found = run(rows, encoder=encoder, source=source, vector_rows=vector_rows, seed=seed, progress=progress)
    emit(session.output, found)


@command(app, "retrieval", Needs.ENCODER)
def retrieval(
    session: "Session",
    *,
    n: Annotated[int, typer.Option("-n", min=1000, help="Vectors in the index.")] = 1_000_000,
    kind: Annotated[str, typer.Option(help="Kind of index: ivf, hnsw, flat ...")] = "ivf",
    k: Annotated[int, typer.Option("-k", min=1, help="Results wanted for each query.")] = 10,
    queries: Annotated[int, typer.Option(min=1, help="Single queries timed.")] = 1_000,
    encoded: Annotated[
        int, typer.Option(min=100, help="Vectors encoded for real; the others are modelled on them.")
    ] = (20_000),
    seed: Seed = 0,
) -> None:
    """Search an index one query at a time on one core, beside the exact one."""
    from memedit.bench.retrieval import run

    found = run(
        n,
        kind=kind,
        k=k,
        queries=queries,
        encoder=session.settings.encoder,
        encoded=encoded,
        seed=seed,
        report=session.output.note,
    )
    emit(session.output, found)


@command(app, "memory", Needs.ENCODER | Needs.SCOPE)
def memory(
    session: "Session",
    *,
    data: Annotated[
        list[Path],
        typer.Option(exists=True, dir_okay=False, help="Data file whose held-out rows are asked about; repeatable."),
    ],
    edits: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Edits in the memory, may be repeated. [default: 1000 and 10000]"),
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Rows of each file that are asked about.")] = 100,
    index: Annotated[str | None, typer.Option(help="Kind of vector index. [default: the settings']")] = None,
    conflicts: Annotated[
        str, typer.Option(help="Who judges contradictions at the import: scope, or masked, which is quicker.")
    ] = "scope",
    keep: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the memories; what is there is not imported again."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Fill a memory with published and generated edits: import, start-up, look-up, what fires, upkeep."""
    from memedit.bench.memory import run
    from memedit.evaluation.datasets import name_files

    settings = session.settings
    found = run(
        name_files(data, []),
        edits=edits or (1_000, 10_000),
        queries=queries,
        encoder=settings.encoder,
        scope=settings.scope.name,
        index=index or settings.index,
        conflicts=conflicts,
        folder=keep,
        seed=seed,
        report=session.output.note,
    )
    emit(session.output, found)


@command(app, "namespaces", Needs.ENCODER | Needs.SCOPE)
def namespaces(
    session: "Session",
    *,
    queries: Annotated[int, typer.Option(min=1, help="Queries in all.")] = 100_000,
    minutes: Minutes = None,
    spaces: Annotated[int, typer.Option(min=2, help="Namespaces with edits on the same subjects.")] = 50,
    subjects: Annotated[int, typer.Option(min=2, help="Subjects that they share.")] = 100,
    seed: Seed = 0,
) -> None:
    """Ask in many namespaces about the same subjects, and count edits that come from another one (none may)."""
    from memedit.bench.namespaces import run

    settings = session.settings
    with session.output.progress("asking") as progress:
        found = run(
            queries=queries,
            minutes=minutes,
            namespaces=spaces,
            subjects=subjects,
            encoder=settings.encoder,
            scope=settings.scope.name,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)
