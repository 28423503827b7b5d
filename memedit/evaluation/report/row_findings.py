"""What further rows of evaluation found, for the report's page and the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table as TerminalTable
from rich.text import Text

from memedit.evaluation.metrics.statistics import Estimate
from memedit.evaluation.outcome import MethodRun
from memedit.evaluation.report.svg import Figure, Series, line_chart
from memedit.evaluation.rows.base import Cell, Curve, Finding, Table

_LONGEST = 40
"""Lines of a table in the terminal; all are on the page and in ``rows.json``."""


def row_sections(runs: Sequence[MethodRun]) -> list[dict[str, Any]]:
    """Return one section for each row: its tables, method by method, and its plots with all methods in each."""
    sections = []
    for row in dict.fromkeys(found.row for run in runs for found in run.findings):
        found = [item for run in runs for item in run.findings if item.row == row]
        tables = [(item.method, table, item.facts) for item in found for table in item.tables]
        sections.append({"name": row, "tables": tables, "figures": _figures(found)})
    return sections


def _figures(found: Sequence[Finding]) -> list[Figure]:
    drawn: dict[str, list[tuple[str, Curve]]] = {}
    for item in found:
        for curve in item.curves:
            drawn.setdefault(curve.title, []).append((item.method, curve))
    figures = []
    for title, curves in drawn.items():
        ticks = sorted({x for _, curve in curves for x, _ in curve.points})
        if ticks:
            series = [_series(method, curve) for method, curve in curves]
            first = curves[0][1]
            chart = line_chart(
                series, x_label=first.x_label, y_label=first.y_label, y_range=(0.0, 100.0), x_ticks=ticks
            )
            figures.append((title, chart))
    return figures


def _series(method: str, curve: Curve) -> Series:
    points = tuple((x, estimate.value) for x, estimate in curve.points)
    return Series(method, points, tuple((estimate.ci_low, estimate.ci_high) for _, estimate in curve.points))


def findings_tables(runs: Sequence[MethodRun]) -> list[TerminalTable]:
    """Return the tables for a terminal."""
    return [_terminal(run, item, table) for run in runs for item in run.findings for table in item.tables]


def _terminal(run: MethodRun, item: Finding, table: Table) -> TerminalTable:
    title = Text(f"{item.row}: {item.method}, {run.row.dataset}, {table.title}")
    shown = TerminalTable(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(table.columns):
        shown.add_column(Text(column), justify="left" if number == 0 else "right")
    lines = table.lines if len(table.lines) <= _LONGEST else (*table.lines[: _LONGEST - 1], table.lines[-1])
    for line in lines:
        shown.add_row(*(Text(cell_text(cell)) for cell in line))
    return shown


def cell_text(cell: Cell) -> str:
    """Return a cell in short: an estimate with its interval and n."""
    if cell is None:
        return "-"
    if isinstance(cell, Estimate):
        return f"{cell.value:.3g} [{cell.ci_low:.3g}, {cell.ci_high:.3g}] n={cell.n}"
    return cell if isinstance(cell, str) else f"{cell:.3g}"
