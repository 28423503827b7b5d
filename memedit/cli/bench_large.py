"""``memedit bench memory`` and ``withdrawal``: what grows with the number of edits."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.bench import Seed, emit
from memedit.cli.options import Needs, command, key_values

if TYPE_CHECKING:
    from memedit.cli.session import Session


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""

    @command(app, "memory", Needs.ENCODER | Needs.SCOPE)
    def memory(
        session: "Session",
        *,
        data: Annotated[
            list[Path],
            typer.Option(
                exists=True, dir_okay=False, help="Data file whose held-out rows are asked about; repeatable."
            ),
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

    @command(app, "withdrawal", Needs.BASE | Needs.ENCODER)
    def withdrawal(
        session: "Session",
        *,
        edits: Annotated[
            int, typer.Option(min=2, help="Edits in the weights, with made-up keys and targets.")
        ] = 10_000,
        method: Annotated[str, typer.Option(help="rome, memit, alphaedit, rect or prune.")] = "alphaedit",
        overrides: Annotated[
            list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
        ] = None,
        seed: Seed = 0,
    ) -> None:
        """Take one of many edits out of the weights by solving again; compare with never having had it."""
        from memedit.bench.withdrawal import run
        from memedit.config.overrides import with_overrides
        from memedit.consolidation.base import ConsolidationSettings
        from memedit.encoders import load_encoder

        found = run(
            session.base_model(),
            load_encoder(session.settings.encoder),
            edits=edits,
            method=method,
            settings=with_overrides(ConsolidationSettings(), key_values("--set", overrides)),
            seed=seed,
        )
        emit(session.output, found)
