"""``memedit train``: train the parts that ship with weights, on your own data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.bench import emit
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
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A training setting, as steps=100; repeatable.")
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
    changes: list[str] | None,
    checkpoint_every: int,
    resume: bool,
) -> None:
    from memedit.workflows.training import train

    with session.output.progress(f"training {part}") as progress:
        report = train(
            part,
            model=session.settings.model.name,
            data=data or [],
            whole=whole or [],
            out=out,
            encoder=session.settings.encoder,
            changes=key_values("--set", changes),
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
    changes: Changes = None,
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
        changes=changes,
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
    changes: Changes = None,
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
        changes=changes,
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
    changes: Changes = None,
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
        changes=changes,
        checkpoint_every=checkpoint_every,
        resume=resume,
    )


@command(app, "scope", Needs.ENCODER)
def scope(
    session: "Session",
    *,
    data: Annotated[list[str], typer.Argument(metavar="FILE...", help="Data files of published forms.")],
    out: Out = Path("runs/scope"),
    background: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Plain text to count rare words on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of made queries, weights and order.")] = 0,
    changes: Changes = None,
) -> None:
    """Train, calibrate and report on the scope classifier; it sees text only and serves any language model."""
    from memedit.workflows.changes import with_changes
    from memedit.workflows.train_scope import ScopeTraining, train_scope

    with session.output.progress("training scope") as progress:
        report = train_scope(
            data,
            out,
            seed=seed,
            encoder=session.settings.encoder,
            background=background or [],
            settings=with_changes(ScopeTraining(), key_values("--set", changes)),
            progress=lambda stage, done, total: progress(done, total),
        )
    emit(session.output, report)
