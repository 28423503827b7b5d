"""``memedit train``: train the parts that ship with weights, on your own data."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.figures import emit
from memedit.cli.options import Needs, command, key_values
from memedit.cli.text import plain

if TYPE_CHECKING:
    from memedit.cli.session import Session

app = typer.Typer(no_args_is_help=True, help="Train the parts that ship with weights, on your own data.")

Data = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE...]", help="Records, of which the training half is used; FILE:N takes N rows."),
]
Whole = Annotated[
    list[str] | None, typer.Option("--whole", metavar="FILE", help="Records, of which every row is used.")
]
Out = Annotated[Path, typer.Option("--out", file_okay=False, help="Folder for weights, report and checkpoints.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A training setting, as steps=100; repeatable.")
]
Start = Annotated[
    Path | None, typer.Option("--start", exists=True, file_okay=False, help="Go on from what was trained there.")
]
Every = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Resume = Annotated[bool, typer.Option(help="Go on from a checkpoint of the same run.")]


def _train(
    session: "Session",
    part: str,
    *,
    data: list[str] | None,
    whole: list[str] | None,
    out: Path,
    overrides: list[str] | None,
    checkpoint_every: int,
    resume: bool,
    start: Path | None = None,
) -> None:
    from memedit.training.run import train

    with session.output.progress(f"training {part}") as progress:
        report = train(
            part,
            model=session.settings.model.name,
            data=data or [],
            whole=whole or [],
            out=out,
            encoder=session.settings.encoder,
            start=start,
            overrides=key_values("--set", overrides),
            checkpoint_every=checkpoint_every,
            resume=resume,
            progress=progress,
        )
    document = plain(report)
    losses = document.pop("losses", [])
    emit(session.output, {**document, "first_loss": losses[:1], "last_loss": losses[-1:]})


@command(app, "reader", Needs.TRAINING)
def reader(
    session: "Session",
    *,
    data: Data = None,
    whole: Whole = None,
    out: Out = Path("runs/reader"),
    start: Start = None,
    overrides: Overrides = None,
    checkpoint_every: Every = 50,
    resume: Resume = True,
) -> None:
    """Train the LoRA that makes a base model use the edits in its prompt."""
    _train(
        session,
        "reader",
        data=data,
        whole=whole,
        out=out,
        start=start,
        overrides=overrides,
        checkpoint_every=checkpoint_every,
        resume=resume,
    )


@command(app, "recipe", Needs.TRAINING | Needs.ENCODER)
def recipe(
    session: "Session",
    *,
    data: Data = None,
    whole: Whole = None,
    out: Out = Path("runs/recipe"),
    start: Start = None,
    overrides: Overrides = None,
    checkpoint_every: Every = 50,
    resume: Resume = True,
) -> None:
    """Train RECIPE's knowledge encoder, prompt head and sentinel for a base model."""
    _train(
        session,
        "recipe",
        data=data,
        whole=whole,
        out=out,
        start=start,
        overrides=overrides,
        checkpoint_every=checkpoint_every,
        resume=resume,
    )


@command(app, "serac", Needs.TRAINING)
def serac(
    session: "Session",
    *,
    data: Data = None,
    whole: Whole = None,
    out: Out = Path("runs/serac"),
    overrides: Overrides = None,
    checkpoint_every: Every = 50,
    resume: Resume = True,
) -> None:
    """Train SERAC's counterfactual model for a base model; its scope classifier is trained by `train scope`."""
    _train(
        session,
        "serac",
        data=data,
        whole=whole,
        out=out,
        overrides=overrides,
        checkpoint_every=checkpoint_every,
        resume=resume,
    )


@command(app, "hypernet", Needs.TRAINING)
def hypernet(
    session: "Session",
    *,
    data: Data = None,
    whole: Whole = None,
    preset: Annotated[
        str,
        typer.Option("--preset", help="Published method to follow: mend, propmend, malmen, rledit, knowledge_editor."),
    ] = "mend",
    out: Out = Path("runs/hypernet"),
    overrides: Overrides = None,
    checkpoint_every: Every = 50,
    resume: Resume = True,
) -> None:
    """Train a hypernetwork that makes low-rank factors of an edit's gradient, for the adapter of that name."""
    from memedit.config.overrides import with_overrides
    from memedit.models import load_model
    from memedit.training.hypernet.run import train_hypernet
    from memedit.training.hypernet.settings import preset_of

    settings = with_overrides(preset_of(preset).settings, key_values("--set", overrides))
    with session.output.progress(f"training {preset}") as progress:
        report = train_hypernet(
            load_model(session.settings.model.name),
            preset=preset,
            data=data or [],
            whole=whole or [],
            out=out,
            settings=settings,
            checkpoint_every=checkpoint_every,
            resume=resume,
            progress=lambda _stage, done, total: progress(done, total),
        )
    document = plain(report)
    losses = document.pop("losses", [])
    emit(session.output, {**document, "first_loss": losses[:1], "last_loss": losses[-1:]})


@command(app, "scope", Needs.ENCODER)
def scope(
    session: "Session",
    *,
    data: Annotated[list[str], typer.Argument(metavar="FILE...", help="Data files of published forms.")],
    out: Out = Path("runs/scope"),
    leave_out: Annotated[str, typer.Option(help="Comma-separated inventory files to calibrate on, not to fit.")] = "",
    background: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Plain text that stands before questions.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Begin with the weights of this one.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Take the calibration of this one.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train and calibrate the scope classifier from the inventory of relations; it serves any language model."""
    from memedit.config.overrides import with_overrides
    from memedit.training.scope.fitting import JudgeSettings
    from memedit.training.scope.run import train_judge

    with session.output.progress("training the scope") as progress:
        report = train_judge(
            data,
            out,
            leave_out=[name.strip() for name in leave_out.split(",") if name.strip()],
            encoder=session.settings.encoder,
            background=background or [],
            start=start,
            calibration=calibration,
            settings=with_overrides(JudgeSettings(), key_values("--set", overrides)),
            progress=lambda found: progress(found.step, found.steps),
        )
    emit(session.output, report)


@command(app, "subjects", Needs.ENCODER)
def subjects(
    session: "Session",
    *,
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", exists=True, dir_okay=False, help="Data files with prompts and subjects."),
    ] = None,
    out: Out = Path("runs/subjects"),
    seed: Annotated[int, typer.Option(help="Seed of texts, weights and order.")] = 0,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Report on this inventory file or language in place of training on it; repeatable."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder of encoded texts, which runs share. [default: OUT/work]"),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train the tagger that finds subject and value in prompts and statements, and report on what it has not seen."""
    from memedit.config.overrides import with_overrides
    from memedit.training.subjects.fitting import TaggerSettings
    from memedit.training.subjects.run import train_subjects

    with session.output.progress("training subjects") as progress:
        report = train_subjects(
            data or [],
            out,
            seed=seed,
            encoder=session.settings.encoder,
            leave_out=leave_out or [],
            work=work,
            settings=with_overrides(TaggerSettings(), key_values("--set", overrides)),
            progress=lambda stage, done, total: progress(done, total),
        )
    emit(session.output, report)


@command(app, "elder", Needs.MEMORY | Needs.TRAINING)
def elder(
    session: "Session",
    *,
    out: Out = Path("runs/elder"),
    overrides: Overrides = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=VALUE", help="Shape of a new mixture, as rank=8; repeatable."),
    ] = None,
    afresh: Annotated[bool, typer.Option("--afresh", help="Make a new mixture and train every edit again.")] = False,
    if_due: Annotated[
        bool, typer.Option("--if-due", help="Only when as many edits wait, or wait as long, as the settings say.")
    ] = False,
    watch: Annotated[
        float | None, typer.Option("--watch", min=1.0, help="Stay, look every so many seconds, and train when due.")
    ] = None,
    checkpoint_every: Every = 20,
    resume: Resume = True,
) -> None:
    """Train ELDER on the edits of the memory that wait for it, and put their codes into the memory."""
    from memedit.training.elder.passes import keep_training, run_pass

    memory = session.memory()
    if watch is not None:
        options = {"out": out, "overrides": key_values("--set", overrides), "shape": key_values("--shape", shape)}
        keep_training(
            session.settings,
            memory,
            every=watch,
            stop=Event(),
            done=lambda report: session.output.note(f"trained {report.trained} edits in {report.seconds:.0f} s"),
            **options,
        )
        return
    with session.output.progress("training elder") as progress:
        report = run_pass(
            session.settings,
            memory,
            out=out,
            overrides=key_values("--set", overrides),
            shape=key_values("--shape", shape),
            afresh=afresh,
            only_if_due=if_due,
            checkpoint_every=checkpoint_every,
            resume=resume,
            progress=progress,
        )
    emit(session.output, plain(report))


@command(app, "export-elder", Needs.MEMORY | Needs.TRAINING)
def export_elder(
    session: "Session",
    *,
    folder: Annotated[Path, typer.Argument(help="Folder to write LoRAs to, one for each group of edits.")],
    edit: Annotated[list[str] | None, typer.Option("--edit", metavar="ID", help="Only this edit; repeatable.")] = None,
) -> None:
    """Write trained edits as plain PEFT LoRAs, and print their rank and the flags that vLLM needs."""
    from memedit.training.elder.passes import export_memory

    memory = session.memory()
    exported = export_memory(session.settings, memory, folder, ids=edit)
    document = {"folders": len(exported.folders), "rank": exported.rank, "vllm": exported.vllm_flags}
    emit(session.output, {"out": str(folder), **document})
