"""The ``memedit`` command. Importing it is cheap: heavy libraries are imported by the commands that need them."""

import os
import sys
import traceback
from typing import Annotated

import typer

from memedit.cli import (
    ask,
    backup,
    bench,
    chat,
    consolidate,
    demo,
    edit,
    index,
    keys,
    models,
    quotas,
    scope,
    serve,
    stats,
    train,
    versions,
)
from memedit.cli import eval as evaluate
from memedit.cli.failures import INTERNAL, MemeditGroup

app = typer.Typer(
    name="memedit",
    cls=MemeditGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Edit memory for frozen Hugging Face causal LMs: a correction written now is in force in the next answer.",
    epilog="Exit codes: 0 success, 1 a memedit error, 2 wrong usage, 3 conflict, 70 a defect, 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"memedit {version('memedit')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Edit memory for frozen Hugging Face causal LMs: a correction written now is in force in the next answer."""


demo.register(app)
chat.register(app)
ask.register(app)
serve.register(app)
backup.register(app)
consolidate.register_withdraw(app)
versions.register_rollback(app)
versions.register_export(app)
app.add_typer(edit.app, name="edit")
app.add_typer(keys.app, name="keys")
app.add_typer(quotas.app, name="quotas")
app.add_typer(scope.app, name="scope")
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
app.add_typer(evaluate.app, name="eval")
app.add_typer(bench.app, name="bench")
app.add_typer(train.app, name="train")
app.add_typer(stats.app, name="stats")
stats.register(app)
app.add_typer(consolidate.app, name="consolidate")
app.add_typer(versions.app, name="versions")


def run() -> None:
    """Entry point of the ``memedit`` script."""
    # Offline is the default that works everywhere; HF_HUB_OFFLINE=0 lets models come from a hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own bars fill a log with fragments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception:
        traceback.print_exc()
        sys.stderr.write("memedit: this is a defect; please report it with the lines above\n")
        sys.exit(INTERNAL)


if __name__ == "__main__":
    run()
