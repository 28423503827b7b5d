"""What a scope made of files of asks, as one HTML page."""

from html import escape
from typing import Any

from memedit.evaluation.report.page import figure, number_cell, page, table
from memedit.evaluation.report.svg import Series, line_chart


def asks_page(report: dict[str, Any]) -> str:
    """Return the findings as one HTML document."""
    points = tuple((row["score"], row["right"]) for row in report["reliability"])
    chart = line_chart(
        [Series(report["scope"], points), Series("perfect", ((0.0, 0.0), (1.0, 100.0)))],
        x_label="score",
        y_label="share of pairs that are right, percent",
        y_range=(0, 100),
        x_ticks=[0, 0.2, 0.4, 0.6, 0.8, 1],
    )
    body = [
        "<h1>What a scope makes of asks</h1>",
        f'<p class="dim">Scope {escape(report["scope"])}, threshold {report["threshold"]:.3f}; '
        f"{escape(', '.join(report['files']))}. <b>Right</b>: a wanted edit fires, or none where none may.</p>",
        table(["kind", "right", "another edit fires"], [_row(row) for row in report["rows"]], numeric_from=1),
        figure("Reliability: what share of the pairs at a score is right", chart),
        "<h2>The worst</h2>",
        table(
            ["kind", "ask", "wanted", "fired", "own", "other"],
            [_failure(row) for row in report["worst"]],
            numeric_from=4,
        ),
    ]
    return page("memedit scope on asks", body)


def _row(row: dict[str, Any]) -> str:
    cells = ""
    for name in ("right", "another_fires"):
        found = row[name]
        cells += number_cell(f"{found['value']:.1f}", f"{found['ci_low']:.1f}–{found['ci_high']:.1f}, n={found['n']:,}")
    return f"<tr><td>{escape(row['kind'])}</td>{cells}</tr>"


def _failure(row: dict[str, Any]) -> str:
    words = "".join(f"<td>{escape(row[name][:300])}</td>" for name in ("kind", "text", "wanted", "fired"))
    scores = "".join(number_cell(f"{row[name]:.2f}") for name in ("own", "other"))
    return f"<tr>{words}{scores}</tr>"
