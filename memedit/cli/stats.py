"""``memedit stats`` and ``memedit trace``: what consolidation needs to know about a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memedit.cli.figures import emit
from memedit.cli.options import Needs, command, key_values
from memedit.cli.output import Output

if TYPE_CHECKING:
    from memedit.cli.session import Session

app = typer.Typer(no_args_is_help=True, help="Statistics of a model's MLP keys, which weight edits must respect.")


@command(app, "build", Needs.BASE)
def build(
    session: "Session",
    *,
    text: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Plain text, may be repeated.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME[:CONFIG]", help="Hub data set with a text column; needs a hub.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="N,N...", help="Layers. [default: those the model's shape proposes]")
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens read, or written by the model.")] = 100_000,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A consolidation setting; repeatable.")
    ] = None,
    store: Annotated[Path | None, typer.Option(file_okay=False, help="Folder. [default: memedit's cache]")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from a checkpoint of the same run.")] = True,
) -> None:
    """Gather second moments of the keys of the edited layers: from text, or from what the model itself writes.

    Kept under everything they depend on: a second call only reads them.
    """
    from memedit.config.overrides import with_overrides
    from memedit.consolidation.base import ConsolidationSettings
    from memedit.workflows.consolidate import statistics

    wanted = key_values("--set", overrides) | ({} if layers is None else {"layers": f"[{layers}]"})
    with session.output.progress("reading keys") as progress:
        found = statistics.build(
            session.settings.model.name,
            texts=text or (),
            dataset=dataset,
            settings=with_overrides(ConsolidationSettings(), wanted),
            tokens=tokens,
            store=store,
            resume=resume,
            progress=progress,
        )
    session.output.emit(found, lambda out: _show(out, found))


def _show(out: Output, found: dict[str, object]) -> None:
    layers = found["layers"]
    assert isinstance(layers, dict)
    out.line(f"key statistics {str(found['key'])[:12]}, from {found['source']}")
    out.table(
        ["layer", "keys", "mean eigenvalue", "largest", "null space", "of"],
        [
            [
                layer,
                str(row["keys"]),
                f"{row['mean_eigenvalue']:.4g}",
                f"{row['largest_eigenvalue']:.4g}",
                str(row["null_space"]),
                str(row["width"]),
            ]
            for layer, row in layers.items()
        ],
    )


def register(root: typer.Typer) -> None:
    """Add ``memedit trace``."""

    @command(root, "trace", Needs.BASE)
    def trace(
        session: "Session",
        *,
        prompts: Annotated[
            str | None,
            typer.Argument(
                metavar="[FILE|PROMPT]",
                help="Edits whose prompts are traced; with --neurons also one prompt. [default: known facts]",
            ),
        ] = None,
        neurons: Annotated[
            bool, typer.Option("--neurons", help="Name the MLP neurons that carry the answer, in place of layers.")
        ] = False,
        old: Annotated[
            str | None, typer.Option(help="The answer behind PROMPT. [default: the model's next token]")
        ] = None,
        paraphrase: Annotated[
            list[str] | None, typer.Option(help="PROMPT in other words: neurons must count there too; repeatable.")
        ] = None,
        facts: Annotated[int | None, typer.Option(min=1, help="Most prompts traced.")] = None,
        noise: Annotated[float, typer.Option(min=0.0, help="Noise, in units of the embeddings' deviation.")] = 3.0,
        window: Annotated[
            int | None, typer.Option(min=1, help="Layers of MLPs and attention restored at once.")
        ] = None,
        seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
        report: Annotated[
            Path | None, typer.Option(dir_okay=False, help="Draw the heat maps on this HTML page.")
        ] = None,
    ) -> None:
        """Find the layers in which a model recalls facts, by causal tracing, or the neurons that carry an answer."""
        file = None if prompts is None else Path(prompts)
        if neurons and file is not None and not file.is_file():
            _trace_neurons(session, [str(prompts), *(paraphrase or ())], old, seed)
            return
        if old is not None or paraphrase:
            raise typer.BadParameter("--old and --paraphrase go with --neurons and a prompt")
        if file is not None and not file.is_file():
            raise typer.BadParameter(f"there is no file {prompts!r}; a prompt as text goes with --neurons")
        if neurons:
            _trace_many_neurons(session, file, facts, seed)
            return
        from memedit.workflows.consolidate.trace import trace_model

        with session.output.progress("tracing") as progress:
            found = trace_model(
                session.settings.model.name,
                prompts=file,
                facts=facts,
                noise=noise,
                window=window,
                seed=seed,
                report=report,
                progress=progress,
            )
        session.output.emit(
            found, lambda out: emit(out, {name: value for name, value in found.items() if name not in _LONG})
        )


def _trace_neurons(session: "Session", prompts: list[str], answer: str | None, seed: int) -> None:
    from memedit.workflows.consolidate.neurons import trace_neurons

    found = trace_neurons(session.settings.model.name, prompts, answer, seed=seed)

    def show(out: Output) -> None:
        emit(out, {name: value for name, value in found.items() if name != "neurons"})
        rows = [
            [str(n["layer"]), str(n["index"]), f"{n['attribution']:.4f}", f"{n['share']:.2f}"] for n in found["neurons"]
        ]
        out.table(["layer", "neuron", "attribution", "of the prompts"], rows)

    session.output.emit(found, show)


def _trace_many_neurons(session: "Session", file: Path | None, facts: int | None, seed: int) -> None:
    from memedit.workflows.consolidate.neurons import trace_many_neurons

    with session.output.progress("tracing") as progress:
        found = trace_many_neurons(session.settings.model.name, prompts=file, facts=facts, seed=seed, progress=progress)
    session.output.emit(found, lambda out: emit(out, found))


_LONG = ("effects", "places")
