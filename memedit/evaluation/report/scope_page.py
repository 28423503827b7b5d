"""The scope laboratory as one HTML page."""

from collections.abc import Sequence
from html import escape
from typing import Any

from memedit.evaluation.report.page import figure, number_cell, page, table
from memedit.evaluation.report.svg import Series, line_chart

_NEAR = 20.0
"""The trade-off is drawn up to this many percent on both axes: beyond it a scope is of no use."""
_TICKS = [0, 4, 8, 12, 16, _NEAR]


def scope_page(laboratory: dict[str, Any]) -> str:
    """Return the laboratory's findings as one HTML document."""
    rows = laboratory["rows"]
    body = [
        "<h1>Scope laboratory</h1>",
        '<p class="dim">Which stored edit fires on a query, if any. <b>Missed</b>: paraphrases (aliases, edit prompts) '
        "on which the right edit does not fire. <b>Disturbed</b>: strangers, and prompts about an edit's subject but "
        "another relation (hard), on which any edit fires. AUC with DeLong's 95% interval.</p>",
        _table(rows),
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        chosen = [row for row in rows if row["dataset"] == dataset]
        body += [f"<h2>{escape(dataset)}</h2>", '<div class="plots">', *_trade_offs(chosen), *_sweeps(chosen), "</div>"]
    return page("memedit scope laboratory", body)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    areas = list(dict.fromkeys(name for row in rows for name in row["auc"]))
    rates = list(dict.fromkeys(name for row in rows for name in row["at_threshold"]))
    head = ["data", "scope", "edits", "threshold", *(f"AUC {name.replace('_', ' ')}" for name in areas), *rates]
    lines = []
    for row in rows:
        cells = number_cell(f"{row['edits']:,}") + number_cell(f"{row['threshold']:.3f}")
        cells += "".join(_cell(row["auc"].get(name), 4) for name in areas)
        cells += "".join(_cell(row["at_threshold"].get(name), 1) for name in rates)
        lines.append(f"<tr><td>{escape(row['dataset'])}</td><td>{escape(row['scope'])}</td>{cells}</tr>")
    return table(head, lines, numeric_from=2)


def _cell(estimate: dict[str, float] | None, digits: int) -> str:
    if estimate is None:
        return '<td class="num dim">–</td>'
    interval = f"{estimate['ci_low']:.{digits}f}–{estimate['ci_high']:.{digits}f}, n={estimate['n']:,}"
    return number_cell(f"{estimate['value']:.{digits}f}", interval)


def _trade_offs(rows: Sequence[dict[str, Any]]) -> list[str]:
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
            figures.append(figure(f"Missed paraphrases against {words}", chart))
    return figures


def _inside(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep what lies in the drawn square, and cut the line where it leaves at the right."""
    return sorted({(x, y) for x, y in points if x <= _NEAR and y <= _NEAR}, key=lambda p: (p[0], -p[1]))


def _sweeps(rows: Sequence[dict[str, Any]]) -> list[str]:
    figures = []
    for row in rows:
        names = [name for name in row["curve"][0] if name != "threshold"]
        series = [Series(name, tuple((p["threshold"], p[name]) for p in row["curve"])) for name in names]
        chart = line_chart(
            series, x_label="threshold", y_label="percent", y_range=(0, 100), x_ticks=[0, 0.2, 0.4, 0.6, 0.8, 1]
        )
        figures.append(figure(f"{row['scope']} (own threshold {row['threshold']:.3f})", chart))
    return figures
