"""``memedit bench``: edits written into weights, undone and withdrawn again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.bench.base import Seed, app
from memedit.cli.consolidate import Versions
from memedit.cli.figures import emit
from memedit.cli.options import Needs, command, key_values

if TYPE_CHECKING:
    from memedit.cli.session import Session


@command(app, "consolidation", Needs.BASE)
def consolidation(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CounterFact in a published form.")],
    edits: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of edits. [default: 10 and 100]")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Solvers. [default: alphaedit and memit]")] = None,
    sequential: Annotated[int | None, typer.Option(min=1, help="Also edit in batches of this size.")] = None,
    joint: Annotated[bool, typer.Option(help="Also solve for all edits at once.")] = True,
    queries: Annotated[int, typer.Option(min=1, help="Cases asked about at most.")] = 200,
    statistics_text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Text of the key statistics. [default: own samples]"),
    ] = None,
    statistics_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it.")] = 100_000,
    perplexity: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Text to take the perplexity of.")
    ] = None,
    perplexity_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it.")] = 8_000,
    capability: Annotated[
        Path | None,
        typer.Option(exists=True, help="Capability file, or a folder of them: 25 questions each."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for keys and targets, for another run.")
    ] = None,
    shattering: Annotated[bool, typer.Option("--shattering", help="Also measure representation shattering.")] = False,
    report: Annotated[Path | None, typer.Option(dir_okay=False, help="Page to draw the figures on (HTML).")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
    ] = None,
) -> None:
    """Write growing numbers of edits into weights, method by method, beside the untouched model."""
    from memedit.bench.weights import Plan, run
    from memedit.config.overrides import with_overrides
    from memedit.consolidation.base import ConsolidationSettings
    from memedit.evaluation.report.growth_page import growth_page
    from memedit.whole_files import write_text

    plan = Plan(
        model=session.settings.model.name,
        data=data,
        edits=tuple(sorted(edits or (10, 100))),
        methods=tuple(method or ("alphaedit", "memit")),
        sequential=sequential,
        joint=joint,
        report=lambda row: session.output.note(json.dumps(row)),
        queries=queries,
        statistics_text=statistics_text,
        statistics_tokens=statistics_tokens,
        perplexity_text=perplexity,
        perplexity_tokens=perplexity_tokens,
        capability=capability,
        settings=with_overrides(ConsolidationSettings(), key_values("--set", overrides)),
        keep=keep,
        shattering=shattering,
    )
    with session.output.progress("consolidating") as progress:
        found = run(plan, progress=lambda stage, done, total: progress(done, total))
    if report is not None:
        write_text(report, growth_page(found["rows"]))
    emit(session.output, found)


@command(app, "consolidation-undo", Needs.BASE)
def consolidation_undo(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=2, help="Edits, split in two halves.")] = 20,
    method: Annotated[str, typer.Option(help="rome, memit, alphaedit, rect, prune or ultraedit.")] = "alphaedit",
    data: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Data file of edits. [default: made-up facts]")
    ] = None,
    statistics_text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Text of the key statistics. [default: own samples]"),
    ] = None,
    statistics_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it.")] = 20_000,
    seed: Seed = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
    ] = None,
) -> None:
    """Say how far weights and answers differ by the order of edits, and after withdrawing from never having had."""
    from memedit.bench.consolidation import run
    from memedit.config.overrides import with_overrides
    from memedit.consolidation.base import ConsolidationSettings

    with session.output.progress("consolidating") as progress:
        found = run(
            edits=edits,
            model=session.settings.model.name,
            method=method,
            data=data,
            settings=with_overrides(ConsolidationSettings(), key_values("--set", overrides)),
            statistics_text=statistics_text,
            statistics_tokens=statistics_tokens,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "hard", Needs.BASE)
def hard(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CounterFact in a published form.")],
    cases: Annotated[int, typer.Option(min=1, help="Edits whose subject is one word at the beginning.")] = 100,
    method: Annotated[list[str] | None, typer.Option(help="Solvers. [default: rome and alphaedit]")] = None,
    sentences: Annotated[int, typer.Option(min=2, help="Sentences of the collapse monitor.")] = 50,
    text: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Text for half of them.")] = None,
    controls: Annotated[
        int, typer.Option(min=0, help="Also so many slight changes, and a planted collapse, for the monitor to judge.")
    ] = 0,
    statistics_text: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Text of the key statistics. [default: own samples]"),
    ] = None,
    statistics_tokens: Annotated[int, typer.Option(min=2, help="Tokens of it.")] = 100_000,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
    ] = None,
) -> None:
    """Write hard edits into the weights, each alone and all together: does any of them break the model?"""
    from memedit.bench.hard import Plan, run
    from memedit.config.overrides import with_overrides
    from memedit.consolidation.base import ConsolidationSettings

    plan = Plan(
        data=data,
        model=session.settings.model.name,
        cases=cases,
        methods=tuple(method or ("rome", "alphaedit")),
        sentences=sentences,
        text=text,
        statistics_text=statistics_text,
        statistics_tokens=statistics_tokens,
        settings=with_overrides(ConsolidationSettings(), key_values("--set", overrides)),
        controls=controls,
    )
    with session.output.progress("consolidating") as progress:
        found = run(plan, progress=lambda stage, done, total: progress(done, total))
    emit(session.output, found)


@command(app, "gated", Needs.MEMORY | Needs.SCOPE | Needs.MODEL)
def gated(
    session: "Session",
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Data file whose edits are consolidated.")],
    queries: Annotated[int, typer.Option(min=1, help="Cases asked about.")] = 250,
    pairs: Annotated[int, typer.Option(min=2, help="Timed pairs.")] = 40,
    versions: Versions = None,
    seed: Seed = 0,
) -> None:
    """Ask the memory alone, the champion's weights alone, and both, gated; and time what the weights save."""
    from memedit.bench.gated import run
    from memedit.evaluation.datasets import name_files
    from memedit.workflows.consolidate.versions import version_store
    from memedit.workflows.open import load_base

    memory, settings = session.memory(), session.settings
    with session.output.progress("asking") as progress:
        found = run(
            memory,
            load_base(settings.model),
            version_store(memory, versions),
            name_files([data], [])[0],
            queries=queries,
            pairs=pairs,
            scope=settings.scope.name,
            adapter=settings.adapter.name,
            seed=seed,
            progress=progress,
        )
    emit(session.output, found)


@command(app, "withdrawal", Needs.BASE | Needs.ENCODER)
def withdrawal(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=2, help="Edits in the weights, with made-up keys and targets.")] = 10_000,
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


@command(app, "elder", Needs.MEMORY | Needs.TRAINING)
def elder(
    session: "Session",
    *,
    edits: Annotated[int, typer.Option(min=1, help="Edits of the memory to time.")] = 16,
) -> None:
    """Time ELDER's training of an edit beside a plain LoRA trained on one edit at a time."""
    from memedit.bench.elder import run

    memory = session.memory()
    with session.output.progress("training plain LoRAs") as progress:
        found = run(memory, model=session.settings.model.name, edits=edits, progress=progress)
    emit(session.output, found)
