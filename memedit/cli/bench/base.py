"""The group of ``memedit bench``'s commands, and options that several of them take."""

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Benchmarks; each prints a ratio to its reference, measured in the same run."
)

Minutes = Annotated[float | None, typer.Option(min=0.01, help="End after so long, whatever is done. [default: never]")]
Seed = Annotated[int, typer.Option(help="Seed of what is made up.")]
