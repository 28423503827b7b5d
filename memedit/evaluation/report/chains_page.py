"""Answers through several edits by the number of hops, and by the size of the memory, as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from memedit.evaluation.report.rendering import page
from memedit.evaluation.report.svg import Figure, Series, line_chart

_NAMES = {
    "chains": "chains",
    "off": "chains off",
    "oracle": "its own facts given",
    "context": "all facts in the prompt",
    "topk": "the nearest facts in the prompt",
}
_Run = Mapping[str, Any]
_Shares = Mapping[str, Any]


def chains_page(runs: Sequence[_Run]) -> str:
    """Return runs of ``memedit bench chains``, each with a memory of its own size, as one document."""
    ordered = sorted(runs, key=lambda run: run["stored"])
    rows = [
        (_NAMES[name], run["stored"], _by_hops(found)) for run in ordered for name, found in _ways(run) if _asked(found)
    ]
    shown = sorted({hops for *_, row in rows for hops in row}, key=int)
    return page(
        "chains.html",
        title="memedit: questions through several edits",
        rows=rows,
        shown=shown,
        figures=[_hops_chart(ordered[-1], shown), *_size_chart(ordered, shown)],
    )


def _ways(run: _Run) -> list[tuple[str, _Shares]]:
    """Return the ways of one run to answer, with what they reach."""
    return [("chains", run), *run.get("compared", {}).items()]


def _by_hops(found: _Shares) -> dict[str, _Shares]:
    """Return the shares by hops where anything was asked, one hop included."""
    return {hops: part for hops, part in {"1": found["one_hop"], **found["by_hops"]}.items() if part["n"]}


def _asked(found: _Shares) -> bool:
    return bool(_by_hops(found))


def _hops_chart(run: _Run, shown: Sequence[str]) -> Figure:
    series = []
    for name, found in _ways(run):
        if parts := _by_hops(found):
            points = tuple((float(hops), part["value"]) for hops, part in parts.items())
            series.append(Series(_NAMES[name], points, _intervals(list(parts.values()))))
    ticks = [float(hops) for hops in shown]
    chart = line_chart(series, x_label="hops", y_label="percent", y_range=(0, 100), x_ticks=ticks)
    return f"Right by hops, {run['stored']} edits stored", chart


def _size_chart(runs: Sequence[_Run], shown: Sequence[str]) -> list[Figure]:
    """Return what chains reach as the memory grows; nothing where all runs had one size."""
    if len({run["stored"] for run in runs}) < 2:
        return []
    series = []
    for hops in shown:
        own = [(float(run["stored"]), _by_hops(run).get(hops)) for run in runs]
        met = [(size, part) for size, part in own if part is not None]
        points = tuple((size, part["value"]) for size, part in met)
        series.append(Series(f"{hops} hops", points, _intervals([part for _, part in met])))
    most = float(runs[-1]["stored"])
    ticks = [most * quarter / 4 for quarter in range(5)]
    chart = line_chart(series, x_label="edits stored", y_label="percent", y_range=(0, 100), x_ticks=ticks)
    return [("Right by size of the memory", chart)]


def _intervals(parts: Sequence[_Shares]) -> tuple[tuple[float, float], ...]:
    return tuple((part["ci_low"], part["ci_high"]) for part in parts)
