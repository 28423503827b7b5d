"""The report of a consolidated version as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from memedit.evaluation.report.rendering import page
from memedit.evaluation.report.svg import Figure, bar_chart

_SHOWN = 200


def version_page(record: Mapping[str, Any], left_over: Sequence[Mapping[str, str]]) -> str:
    """Return the report of a version.

    Args:
        record: the version's record as plain values.
        left_over: edits that the memory goes on answering: id, prompt, target, reason.
    """
    return page(
        "version.html",
        title=f"memedit version {record['name']}",
        record=record,
        served=sum(bool(edit["served"]) for edit in record["edits"]),
        left_over=left_over,
        shown=_SHOWN,
        figures=_figures(record),
    )


def _figures(record: Mapping[str, Any]) -> list[Figure]:
    shares = [(name.split(".mlp.")[0].rsplit(".", 1)[-1], 100 * d / w) for name, (d, w) in record["norms"].items() if w]
    figures = [("Change of each weight, in percent of its norm", bar_chart(shares, y_label="percent"))]
    seconds = [(stage, value) for stage, value in record["seconds"].items() if stage != "total"]
    if seconds:
        figures.append(("Where the time went", bar_chart(seconds, y_label="seconds")))
    return figures
