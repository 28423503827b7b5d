"""``memedit bench``: what answering costs, and whether answers are right."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.bench.base import Seed, app
from memedit.cli.figures import emit, emit_rows
from memedit.cli.options import Needs, command
from memedit.cli.output import Output

if TYPE_CHECKING:
    from memedit.cli.session import Session


@command(app, "overhead", Needs.SCOPE | Needs.MODEL)
def overhead(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=1, help="Made-up facts in the memory.")] = 1_000,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Rows a call, may be repeated. [default: 1 and 8]")
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens generated for each row.")] = 64,
    pairs: Annotated[int, typer.Option(min=1, help="Timed pairs of a bare and a wrapped call.")] = 9,
    in_scope: Annotated[bool, typer.Option("--in-scope", help="Ask about stored facts: every row is edited.")] = False,
    seed: Seed = 0,
) -> None:
    """Time the wrapper, beside the bare model's `generate`, on prompts that no edit concerns or that edits answer."""
    from memedit.bench.overhead import run

    settings = session.settings
    with session.output.progress("timing pairs") as progress:
        found = run(
            model=settings.model.name,
            edits=edits,
            batch_sizes=batch_size or (1, 8),
            new_tokens=new_tokens,
            pairs=pairs,
            seed=seed,
            scope=settings.scope.name,
            adapter=settings.adapter.name,
            in_scope=in_scope,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "evaluation", Needs.ENCODER | Needs.SCOPE | Needs.MODEL)
def evaluation(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Data file of a published form.")],
    cases: Annotated[int, typer.Option(min=1, help="Cases stored and asked about.")] = 1_000,
    method: Annotated[
        str, typer.Option(help="Timed with the base: in_context:plain, rag or oracle.")
    ] = "in_context:plain",
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one batch.")] = 64,
) -> None:
    """Time an evaluation, beside the bare model's `generate` on the same prompts in the same batches."""
    from memedit.bench.evaluation import run
    from memedit.evaluation.datasets import name_files

    settings = session.settings
    with session.output.progress("timing") as progress:
        found = run(
            name_files([data], [])[0],
            cases=cases,
            method=method,
            model=settings.model.name,
            scope=settings.scope.name,
            encoder=settings.encoder,
            batch_size=batch_size,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "letter", Needs.SCOPE | Needs.MODEL | Needs.ENCODER)
def letter(
    session: "Session",
    *,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL rows of kind, prompt, other (the same asked) and target."
        ),
    ],
    raw: Annotated[bool, typer.Option("--raw", help="Ask in plain text: no chat template.")] = False,
    forced: Annotated[
        bool, typer.Option("--forced", help="Read targets instead of generating answers: as good for greedy decoding.")
    ] = False,
) -> None:
    """Ask for targets with line breaks and runs of blanks, and count the answers that are the target to the letter."""
    from memedit.bench.letter import read_targets, run

    model = session.model(session.memory(":memory:"))
    with session.output.progress("asking") as progress:
        found = run(model, read_targets(file), raw=raw, forced=forced, progress=progress)

    def show(out: Output) -> None:
        for form in found:
            exact = form.exact
            interval = f"{exact.value:.1f}% [{exact.ci_low:.1f}, {exact.ci_high:.1f}]"
            out.line(f"{form.form}: {interval} of {exact.n} to the letter; the edit alone fired on {form.fired}")
            out.line("  " + ", ".join(f"{kind} {right}/{n}" for kind, (right, n) in form.by_kind.items()))

    session.output.emit(found, show)


@command(app, "structured", Needs.SCOPE | Needs.MODEL | Needs.ENCODER)
def structured(
    session: "Session",
    *,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="JSONL rows of kind, prompt, target, ask, schema, at (a path) and value."
        ),
    ],
) -> None:
    """Ask for answers that hold to a JSON schema, and count those with the edit's value in its place."""
    from memedit.bench.structured import read_asks, run

    model = session.model(session.memory(":memory:"))
    with session.output.progress("asking") as progress:
        found = run(model, read_asks(file), progress=progress)

    def show(out: Output) -> None:
        for what, share in (("JSON", found.valid), ("the right value in its place", found.right)):
            out.line(f"{what}: {share.value:.1f}% [{share.ci_low:.1f}, {share.ci_high:.1f}] of {share.n}")
        out.line(f"the edit alone fired on {found.fired}; {found.seconds:.2f} s an answer")
        out.line("  " + ", ".join(f"{kind} {right}/{n}" for kind, (right, n) in found.by_kind.items()))

    session.output.emit(found, show)


@command(app, "chains", Needs.SCOPE | Needs.MODEL | Needs.ENCODER | Needs.CHAINS)
def chains(
    session: "Session",
    *,
    facts: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="JSONL rows of serial, prompt, subject, target, relation."),
    ],
    questions: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="JSONL rows of hops, questions, answer, aliases.")
    ],
    fill: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:N]",
            help="Put (N) edits of a data file into the memory first; repeat it for more memories, asked the same.",
        ),
    ] = None,
    unrelated: Annotated[int, typer.Option(min=0, help="Questions that no fact concerns.")] = 200,
    compare: Annotated[
        str,
        typer.Option(
            help="Comma-separated further rows: off (no chains), oracle (a question's own facts in the prompt), "
            "context (all facts there), topk (the nearest ten there).",
        ),
    ] = "",
    compare_questions: Annotated[
        int | None, typer.Option(min=1, help="Questions drawn for these rows. [default: all]")
    ] = None,
    report: Annotated[Path | None, typer.Option(dir_okay=False, help="Page to draw the figures on (HTML).")] = None,
    seed: Seed = 0,
) -> None:
    """Import contradicting facts in order and ask questions that run through one to four of them.

    Questions are looked up along chains unless --chains says otherwise. With several --fill the figures are those
    of the last; by_size lists those of all.
    """
    from memedit.bench.chain_files import read_facts, read_questions
    from memedit.bench.chain_rows import check_rows
    from memedit.bench.chains import run, run_sizes
    from memedit.evaluation.report.chains_page import chains_page
    from memedit.whole_files import write_text

    policy = session.settings.chains if "chains" in session.settings.model_fields_set else "on"
    rows, compared = (read_facts(facts), read_questions(questions)), check_rows(compare)
    fills: list[str | None] = [*fill] if fill else [None]
    with session.output.progress("asking") as progress:
        runs = [
            run(
                session.model(session.memory(":memory:"), chains=policy),
                *rows,
                fill=one,
                unrelated=unrelated,
                compare=compared,
                compared_questions=compare_questions,
                seed=seed,
                progress=progress,
            )
            for one in fills
        ]
    if report is not None:
        write_text(report, chains_page(runs))
    emit_rows(session.output, run_sizes(runs))


@command(app, "recheck", Needs.SCOPE | Needs.MODEL | Needs.ENCODER)
def recheck(
    session: "Session",
    *,
    data: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL rows of question, as UnKE's.")],
    rows: Annotated[int, typer.Option(min=2, help="Questions that are asked at first.")] = 300,
    policy: Annotated[str, typer.Option(help="sentence, or a number of tokens.")] = "sentence",
    new_tokens: Annotated[int, typer.Option(min=16, help="Length of an answer.")] = 96,
    seed: Seed = 0,
) -> None:
    """Store other values of what the model's own long answers come to, and ask again with re-check and without."""
    from memedit.bench.recheck import run

    model = session.model(session.memory(":memory:"))
    with session.output.progress("answering") as progress:
        found = run(model, data, rows=rows, policy=policy, new_tokens=new_tokens, seed=seed, progress=progress)
    emit_rows(session.output, found)
