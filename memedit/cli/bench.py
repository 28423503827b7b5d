"""``memedit bench``: measure memedit beside its own reference, in the same run."""

import typer

app = typer.Typer(
    no_args_is_help=True, help="Benchmarks; each prints a ratio to its reference, measured in the same run."
)
