"""How edits in weights fare as their number grows, as one HTML page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from memedit.evaluation.report.rendering import page
from memedit.evaluation.report.svg import Figure, Series, line_chart

_KINDS = {
    "efficacy": "the new answer is likelier than the old one, at the edit's own prompt",
    "paraphrase": "the same, in other words",
    "specificity": "the old answer is likelier still, at prompts about neighbours",
}
_Row = Mapping[str, Any]


def growth_page(rows: Sequence[_Row]) -> str:
    """Return rows of ``memedit bench consolidation`` (the untouched model's are named ``base``) as one document."""
    edited = [row for row in rows if row["method"] != "base"]
    names = list(dict.fromkeys(_name(row) for row in edited))
    figures = [(f"{kind.capitalize()}: {says}", _chart(edited, names, kind)) for kind, says in _KINDS.items()]
    ordered = sorted(rows, key=lambda row: (row["edits"], row["method"] != "base"))
    return page(
        "growth.html",
        title="memedit: edits written into the weights",
        rows=[(_name(row), row) for row in ordered],
        shown=[*_KINDS, "perplexity"],
        figures=[*figures, *_harm(rows, edited, names)],
    )


def _name(row: _Row) -> str:
    return str(row["method"]) if row["stream"] == "batch" else f"{row['method']}, {row['stream']}"


def _grown(rows: Sequence[_Row], name: str) -> list[_Row]:
    return sorted((row for row in rows if _name(row) == name), key=lambda row: row["edits"])


def _ticks(rows: Sequence[_Row]) -> list[float]:
    most = max((float(row["edits"]) for row in rows), default=1.0)
    return [most * quarter / 4 for quarter in range(5)]


def _chart(rows: Sequence[_Row], names: Sequence[str], kind: str) -> Markup:
    series = []
    for name in names:
        own = _grown(rows, name)
        points = tuple((float(row["edits"]), row[kind]["value"]) for row in own)
        series.append(Series(name, points, tuple((row[kind]["ci_low"], row[kind]["ci_high"]) for row in own)))
    return line_chart(series, x_label="edits", y_label="percent", y_range=(0, 100), x_ticks=_ticks(rows))


def _harm(rows: Sequence[_Row], edited: Sequence[_Row], names: Sequence[str]) -> list[Figure]:
    """Return the growth of perplexity over the untouched model's; nothing where no text was given."""
    base = next((row["perplexity"]["value"] for row in rows if row["method"] == "base" and "perplexity" in row), None)
    if base is None:
        return []
    series = []
    for name in names:
        own = _grown(edited, name)
        points = tuple((float(row["edits"]), 100 * (row["perplexity"]["value"] / base - 1)) for row in own)
        series.append(Series(name, points))
    harms = [y for line in series for _, y in line.points]
    low, top = 4.0 * math.floor(min(0.0, *harms) / 4), 4.0 * math.ceil(max(4.0, *harms) / 4)
    chart = line_chart(series, x_label="edits", y_label="percent", y_range=(low, top), x_ticks=_ticks(edited))
    return [("Harm: growth of perplexity", chart)]
