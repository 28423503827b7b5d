"""``memedit scope``: why an edit applies to a question or not, and where the threshold lies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.options import Needs, command
from memedit.cli.output import Output
from memedit.cli.text import chain_text, one_line, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memedit.cli.session import Session
    from memedit.types import ScopeDecision
    from memedit.workflows.feedback import Remedies

_MAIN_REASONS = (
    "verbatim",
    "subject",
    "subject_words",
    "relation",
    "cross",
    "talk",
)

app = typer.Typer(no_args_is_help=True, help="Why an edit applies to a question or not, and where the threshold lies.")


@command(app, "explain", Needs.MEMORY | Needs.SCOPE | Needs.CHAINS)
def explain(
    session: "Session",
    prompt: Annotated[str, typer.Argument(help="The question, as it would be asked.")],
) -> None:
    """Show which edits would apply to a question, with their scores; no language model is loaded."""
    from memedit.workflows.scope import explain as run_explain

    memory, settings = session.memory(), session.settings
    found = run_explain(memory, session.scope(memory), [prompt], k=settings.scope.candidates, chains=settings.chains)
    decision = found[0]
    session.output.emit(decision, lambda out: print_decision(out, decision))


@command(app, "calibrate", Needs.MEMORY | Needs.SCOPE)
def calibrate(
    session: "Session",
    file: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help='JSONL rows {"query": text, "edits": [prompts or ids]}. [default: the feedback given at servers]',
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Without a file: do what is shown; else nothing is changed.")
    ] = False,
    max_false_fire: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of out-of-scope examples that may fire.")
    ] = 0.005,
    save: Annotated[bool, typer.Option(help="Keep the threshold in the memory, for this scope and encoder.")] = True,
) -> None:
    """Choose the scope's threshold from labelled questions; rows with an empty list must stay untouched.

    Without a file: show what mends the feedback that was given on requests of servers, and with --apply do it.
    """
    if file is None:
        _feedback(session, apply=apply)
        return
    from memedit.workflows.scope import calibrate_scope

    memory = session.memory()
    with session.output.progress("scoring examples") as progress:
        found = calibrate_scope(
            memory, session.scope(memory), file, max_false_fire=max_false_fire, save=save, progress=progress
        )
    session.output.emit(
        found,
        lambda out: out.line(
            f"threshold {found.threshold:.4f}: right edit fires on {found.hit_rate:.1%} of {found.in_scope} in-scope "
            f"questions, any edit on {found.false_fire_rate:.1%} of {found.out_of_scope} others"
            + ("; saved" if save else "; not saved")
        ),
    )


def _feedback(session: "Session", *, apply: bool) -> None:
    from memedit.workflows.feedback import carry_out, propose

    memory = session.memory()
    scope = session.scope(memory)
    options = session.settings.scope
    found = propose(memory, scope, threshold=options.threshold, move=options.threshold is None, k=options.candidates)
    if apply:
        found = carry_out(memory, scope, found)
    document = {"applied": apply, **plain(found)}
    session.output.emit(document, lambda out: print_remedies(out, found, applied=apply))


def print_remedies(out: Output, found: "Remedies", *, applied: bool) -> None:
    """Print what mends the feedback, or what was done about it."""
    if not found.remedies:
        out.line("no open feedback: say of a request in the console which edit should have fired, or should not have")
        return
    if found.proposed == found.threshold:
        out.line(f"threshold {found.threshold:.4f} stays")
    else:
        out.line(
            f"threshold {found.threshold:.4f} -> {found.proposed:.4f}; paraphrases that fire {found.caught[0]:.1%} "
            f"-> {found.caught[1]:.1%}, prompts of others {found.false_fires[0]:.1%} -> {found.false_fires[1]:.1%}"
        )
    for one in found.remedies:
        should = "should fire" if one.verdict.should_fire else "should not fire"
        score = "not found" if one.score is None else f"score {one.score:.3f}"
        target = one.verdict.edit_id if one.edit is None else one_line(one.edit.prompt)
        reason = f" ({one.reason})" if one.reason else ""
        out.line(f"{one.action:<9}  {one_line(one.verdict.query)}: {should} {target}; {score}{reason}")
    if not applied:
        out.line("nothing was changed; --apply does it")


def main_reasons(reasons: "Mapping[str, float]") -> dict[str, float]:
    """Return the features that tell people most; ``--json`` has all of them."""
    return {name: reasons[name] for name in _MAIN_REASONS if name in reasons} or dict(reasons)


def print_decision(out: Output, decision: "ScopeDecision") -> None:
    """Print which edits fire on a query, which were considered, and why."""
    fired = {hit.edit.id for hit in decision.fired}
    verdict = f"{len(fired)} edit(s) fire" if fired else "no edit fires: the answer is the bare model's"
    if decision.abstained:
        verdict += " (the best score lies in the abstention band)"
    out.line(f"{verdict}; scope {decision.scope}, threshold {decision.threshold:.3f}")
    if decision.chain:
        out.line(f"chain: {chain_text(decision.chain)}")
    for hit in decision.considered:
        mark = "fires" if hit.edit.id in fired else "silent"
        out.line(f"{mark:<6}  {hit.score:.3f}  {one_line(hit.edit.prompt)} => {one_line(hit.edit.target, 30)}")
        reasons = ", ".join(f"{name} {value:.2f}" for name, value in main_reasons(hit.reasons).items())
        out.line(
            f"               {hit.edit.id}  cosine {hit.similarity:.2f}, target {hit.target_probability:.2f}"
            + (f"; {reasons}" if reasons else "")
        )
