"""``memedit edit test``: a file of questions, which edits fire on each, and an exit code for machines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.failures import FAILED
from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.text import one_line

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.workflows.edit_tests import QuestionReport, QuestionResult


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @command(app, "test", Needs.MEMORY | Needs.SCOPE | Needs.MODEL)
    def test(
        session: "Session",
        *,
        file: Annotated[
            Path,
            typer.Argument(exists=True, dir_okay=False, help="Questions as JSON rows, and what is expected of each."),
        ],
        answers: Annotated[
            bool, typer.Option("--answers", help="Ask the model, too, and look for what answers must contain.")
        ] = False,
        max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer at most.")] = 64,
    ) -> None:
        """Ask a file of questions and show which edits fire; exit code 1 when one is not as the file expects.

        A row is {"query": text or messages, "expect": "edited" or "unchanged", "edits": [ids or prompts],
        "must_contain": [texts]}, all but the first optional; or {"edit": {"prompt", "target"}, "ask": [rows]}, whose
        edits are tested by themselves, away from the memory. Without --answers no language model is loaded.
        """
        from memedit.workflows.edit_tests import memory_of, read_test_file, run_asking, run_tests

        found = read_test_file(file)
        memory = session.memory(absent="pretend" if found.drafts else "refuse")
        if found.drafts:
            session.output.note(f"{len(found.drafts)} edits of the file are tested, not those of the memory")
            memory = memory_of(found.drafts, like=memory)
        with session.output.progress("asking") as progress:
            if answers:
                model = session.model(memory)
                report = run_asking(found.questions, model, max_new_tokens=max_new_tokens, progress=progress)
            else:
                k = session.settings.scope.candidates
                report = run_tests(found.questions, memory, session.scope(memory), k=k, progress=progress)
        session.output.emit(report, lambda out: _show(out, report))
        if report.failed:
            raise typer.Exit(FAILED)


def _show(out: Output, report: "QuestionReport") -> None:
    for result in report.results:
        _show_result(out, result)
    checked = len(report.results) - report.unchecked
    out.line(
        f"{len(report.results)} questions: {checked - report.failed} of {checked} as expected"
        + (f", nothing expected of {report.unchecked}" if report.unchecked else ""),
        style="bold red" if report.failed else "bold green",
    )


def _show_result(out: Output, result: "QuestionResult") -> None:
    mark, style = ("wrong", "red") if result.problem else ("ok", "green") if result.checked else ("-", "")
    out.line(f"{mark:<5}  {one_line(result.question, 90)}", style=style)
    if result.problem:
        what = f" (expected: {one_line(result.expected, 70)})" if result.expected else ""
        out.line(f"       {result.place}: {result.problem}{what}" + (f"; {result.note}" if result.note else ""))
    for hit in result.fired:
        out.line(f"       fires {hit.score:.2f}  {one_line(hit.prompt)} => {one_line(hit.target, 30)}")
    if result.answer is not None:
        out.line(f"       answer: {one_line(result.answer, 90)}")
