"""``memedit demo``: see it work, on a real small model."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.text import one_line, plain

if TYPE_CHECKING:
    from memedit.cli.session import Session
    from memedit.workflows.demo import DemoChain, DemoReport, DemoRow


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @command(app, "demo", Needs.MODEL | Needs.SCOPE)
    def demo(
        session: "Session",
        max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer.")] = 32,
    ) -> None:
        """Show a real small model before and after a dozen corrections, and the questions beside them untouched."""
        from memedit.workflows.demo import load_script, run_demo

        model = session.model(session.memory(":memory:"), chains="auto")
        with session.output.progress("asking") as progress:
            report = run_demo(
                model,
                load_script(),
                name=session.settings.model.name,
                max_new_tokens=max_new_tokens,
                progress=progress,
            )
        session.output.emit(_document(report), lambda out: _show(out, report))


def _document(report: "DemoReport") -> dict[str, Any]:
    document: dict[str, Any] = plain(report)
    for name in ("edits", "paraphrases", "untouched"):
        for row, shown in zip(getattr(report, name), document[name], strict=True):
            shown["as_expected"] = row.as_expected
    document["chain"]["as_expected"] = report.chain.as_expected
    return document


def _show(out: Output, report: "DemoReport") -> None:
    out.line(f"model {report.model}, scope {report.scope}, adapter {report.adapter}, greedy decoding")
    _section(out, f"{len(report.edits)} corrections, each asked as it was written", report.edits)
    _section(out, "The same facts asked in other words", report.paraphrases)
    _section(out, "Questions no edit touches", report.untouched)
    _show_chain(out, report.chain)
    out.line()
    for name, rows in (("corrections", report.edits), ("other words", report.paraphrases)):
        out.line(f"{name}: {sum(row.as_expected for row in rows)} of {len(rows)} answers hold the corrected fact")
    same = sum(row.as_expected for row in report.untouched)
    out.line(f"untouched: {same} of {len(report.untouched)} answers are token for token the bare model's")


def _show_chain(out: Output, chain: "DemoChain") -> None:
    out.line()
    out.line("A question through two edits, and once the second is withdrawn", style="bold")
    out.line(f"  {chain.question}", style="bold" if out.console.is_terminal else "")
    out.line(f"      both    {one_line(chain.after, 96)}", style="green" if chain.as_expected else "yellow")
    out.line(f"      by way of {_arrows(chain.hops)}")
    out.line(f"      one     {one_line(chain.left, 96)}")
    out.line(f"      {chain.withdrawn!r} was withdrawn: {_arrows(chain.hops_left)}")


def _arrows(hops: "tuple[str, ...]") -> str:
    return " -> ".join(hop or "the model" for hop in hops) or "the model alone"


def _section(out: Output, title: str, rows: "tuple[DemoRow, ...]") -> None:
    out.line()
    out.line(title, style="bold")
    for row in rows:
        out.line(f"  {row.prompt}", style="bold" if out.console.is_terminal else "")
        if row.target is None:
            out.line(f"      answer  {one_line(row.after, 96)}")
            out.line(f"      {'token-identical to the bare model' if row.identical else 'CHANGED'}; {_why(row)}")
            continue
        out.line(f"      before  {one_line(row.before, 96)}")
        out.line(f"      after   {one_line(row.after, 96)}", style="green" if row.as_expected else "yellow")
        out.line(f"      {'holds' if row.as_expected else 'lacks'} {row.target!r}; {_why(row)}")


def _why(row: "DemoRow") -> str:
    if not row.fired:
        return f"no edit fired (threshold {row.threshold:.2f})"
    return f"fired: {' + '.join(row.fired)} (score {row.score:.2f}, threshold {row.threshold:.2f})"
