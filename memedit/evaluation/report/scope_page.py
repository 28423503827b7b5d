"""The scope laboratory as one HTML page."""

from collections.abc import Sequence
from typing import Any

from memedit.evaluation.report.rendering import page
from memedit.evaluation.report.svg import Figure, Series, line_chart

_NEAR = 20.0
"""The trade-off is drawn up to this many percent on both axes: beyond it a scope is of no use."""
_TICKS = [0, 4, 8, 12, 16, _NEAR]


def scope_page(laboratory: dict[str, Any]) -> str:
    """Return the laboratory's findings as one HTML document."""
    rows = laboratory["rows"]
    areas = list(dict.fromkeys(name for row in rows for name in row["auc"]))
    rates = list(dict.fromkeys(name for row in rows for name in row["at_threshold"]))
    datasets = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        chosen = [row for row in rows if row["dataset"] == dataset]
        datasets.append((dataset, [*_trade_offs(chosen), *_sweeps(chosen)]))
    return page(
        "scope.html",
        title="memedit scope laboratory",
        head=["data", "scope", "edits", "threshold", *(f"AUC {name.replace('_', ' ')}" for name in areas), *rates],
        rows=rows,
        areas=areas,
        rates=rates,
        datasets=datasets,
    )


def _trade_offs(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """Return a plot of missed against disturbed for strangers and for the hard set, a line for each scope."""
    figures = []
    for group, words in (("stranger", "disturbed strangers"), ("hard", "disturbed: same subject, other relation")):
        series = []
        for row in rows:
            missed = next((g for g in ("paraphrase", "alias", "edit") if f"{g}.missed" in row["curve"][0]), None)
            if missed is None or f"{group}.disturbed" not in row["curve"][0]:
                continue
            points = [(p[f"{group}.disturbed"], p[f"{missed}.missed"]) for p in row["curve"]]
            series.append(Series(row["scope"], tuple(_inside(points))))
        if any(line.points for line in series):
            chart = line_chart(
                series, x_label=f"{words}, percent", y_label="missed, percent", y_range=(0, _NEAR), x_ticks=_TICKS
            )
            figures.append((f"Missed paraphrases against {words}", chart))
    return figures


def _inside(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep what lies in the drawn square, and cut the line where it leaves at the right."""
    return sorted({(x, y) for x, y in points if x <= _NEAR and y <= _NEAR}, key=lambda p: (p[0], -p[1]))


def _sweeps(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    figures = []
    for row in rows:
        names = [name for name in row["curve"][0] if name != "threshold"]
        series = [Series(name, tuple((p["threshold"], p[name]) for p in row["curve"])) for name in names]
        chart = line_chart(
            series, x_label="threshold", y_label="percent", y_range=(0, 100), x_ticks=[0, 0.2, 0.4, 0.6, 0.8, 1]
        )
        figures.append((f"{row['scope']} (own threshold {row['threshold']:.3f})", chart))
    return figures
