"""``memedit train``: train the parts that ship with weights."""

import typer

app = typer.Typer(no_args_is_help=True, help="Train the parts that ship with weights, on your own data.")
