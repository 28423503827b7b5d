"""``memedit eval answers``: what a model makes of the edits that fire, by kind of question."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.options import Needs, command

if TYPE_CHECKING:
    from memedit.cli.session import Session


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @command(app, "answers", Needs.SCOPE | Needs.MODEL | Needs.ENCODER | Needs.CHAINS)
    def answers(
        session: "Session",
        *,
        file: Annotated[
            Path, typer.Argument(exists=True, dir_okay=False, help="Edits with asks, as for 'eval scope'.")
        ],
        kind: Annotated[
            list[str] | None, typer.Option("--kind", help="Only asks of kinds that begin so; repeatable.")
        ] = None,
        limit: Annotated[
            int | None, typer.Option(min=1, help="The first so many asks of a kind. [default: all]")
        ] = None,
        max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer at most.")] = 48,
        out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("runs/answers"),
    ) -> None:
        """Have a model answer the asks of FILE: by kind, how many answers hold what they must, where the edit fired."""
        from memedit.evaluation.report.terminal import answers_table
        from memedit.workflows.evaluate.answers import run_answers

        model = session.model(session.memory(":memory:"))
        with session.output.progress("asking") as progress:
            report = run_answers(
                model, file, out, kinds=kind or (), limit=limit, max_new_tokens=max_new_tokens, progress=progress
            )
        session.output.emit(report, lambda o: o.console.print(answers_table(report), soft_wrap=False))
        session.output.note(f"the answers: {out / 'answers.json'}")
