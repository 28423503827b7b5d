"""What a scope made of files of asks, as one HTML page."""

from typing import Any

from memedit.evaluation.report.rendering import page
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
    figures = [("Reliability: what share of the pairs at a score is right", chart)]
    return page("asks.html", title="memedit scope on asks", figures=figures, **report)
