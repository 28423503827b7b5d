"""Printing figures: a table of names and values, or one JSON document."""

from collections.abc import Mapping
from typing import Any

from memedit.cli.output import Output
from memedit.cli.text import plain


def emit_rows(output: Output, found: Mapping[str, Any]) -> None:
    """Print figures without its rows, or its whole document."""
    shown = {name: value for name, value in found.items() if name != "rows"}
    output.emit(found, lambda out: out.table(["what", "value"], list(_rows(plain(shown)))))


def emit(output: Output, found: Mapping[str, Any]) -> None:
    """Print figures, or its document."""
    output.emit(found, lambda out: out.table(["what", "value"], list(_rows(plain(found)))))


def _rows(found: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for number, item in enumerate(value):
                rows += _rows(item, f"{prefix}{key}.{number}.")
        else:
            rows.append([prefix + key, f"{value:.4g}" if isinstance(value, float) else str(value)])
    return rows
