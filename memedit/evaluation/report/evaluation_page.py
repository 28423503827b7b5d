"""The report as one HTML page: tables, plots, and the worst failures to read."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from memedit.evaluation.metrics.statistics import Estimate
from memedit.evaluation.outcome import BASELINES, MethodRun, Outcome
from memedit.evaluation.report.figures import quality_by_edits, quality_by_position, threshold_curves
from memedit.evaluation.report.rendering import page
from memedit.evaluation.report.row_findings import row_sections
from memedit.evaluation.report.svg import Figure, bar_chart, line_chart
from memedit.evaluation.results import TIMING_METRICS
from memedit.evaluation.scoring import Failure

PROTOCOLS = {
    "generate": "Greedy generation without any part of the answer; exact match after normalisation.",
    "teacher_forced": "The gold answer is in the input; each of its tokens is judged given those before it. "
    "As most papers report it; not comparable with generated answers.",
}
FAMILIES = (
    "reliability", "generality", "locality", "locality_touched", "specificity", "specificity_touched", "forgetfulness",
    "efficacy", "paraphrase_efficacy", "rouge_l", "rouge_l_paraphrase", "portability.reasoning", "portability.alias",
    "portability.multi_hop", "portability.logical_generalization", "routing_recall", "routing_precision", "fluency",
    "consistency", "perplexity", "capability",
)  # fmt: skip
"""Metrics in the order of the tables."""
_PERCENT = (0.0, 100.0)
_SHARES = [0, 0.2, 0.4, 0.6, 0.8, 1]


def report_page(outcome: Outcome) -> str:
    """Return the report as one HTML document."""
    manifest = outcome.manifest
    datasets = list(dict.fromkeys(run.row.dataset for run in outcome.runs))
    return page(
        "evaluation.html",
        title=f"memedit evaluation: {', '.join(datasets)}",
        model=manifest.get("model", ""),
        version=manifest.get("versions", {}).get("memedit", ""),
        stream=manifest.get("stream", "batch"),
        seed=outcome.seed,
        datasets=[_dataset(outcome, dataset) for dataset in datasets],
        failures=[(failure, _fired(failure, outcome)) for failure in outcome.worst_failures()],
        comparisons=outcome.comparisons(),
        listed=json.dumps(manifest, indent=2, ensure_ascii=False),
    )


def _dataset(outcome: Outcome, dataset: str) -> dict[str, Any]:
    runs = [run for run in outcome.runs if run.row.dataset == dataset]
    stages = [
        _stage([run for run in runs if run.row.edits == edits])
        for edits in dict.fromkeys(run.row.edits for run in runs)
    ]
    return {"name": dataset, "stages": stages, "figures": _figures(runs)}


def _stage(runs: Sequence[MethodRun]) -> dict[str, Any]:
    """Return the tables of one number of edits."""
    protocols = []
    for protocol in dict.fromkeys(run.row.protocol for run in runs):
        own = [run for run in runs if run.row.protocol == protocol]
        methods = [run.row.method + (" (baseline)" if run.row.method in BASELINES else "") for run in own]
        meaning = PROTOCOLS[protocol]
        protocols.append({"name": protocol, "meaning": meaning, "methods": methods, "metrics": _metrics(own)})
    return {
        "edits": runs[0].row.edits,
        "queries": runs[0].row.queries,
        "rows": row_sections(runs),
        "superseded": next((r.row.metrics["superseded"].value for r in runs if "superseded" in r.row.metrics), 0),
        "protocols": protocols,
        "gaps": _gaps(runs),
    }


def _metrics(runs: Sequence[MethodRun]) -> list[dict[str, Any]]:
    """Return a line for each metric, an estimate for each method."""
    names = [n for n in dict.fromkeys(n for run in runs for n in run.row.metrics) if n != "superseded"]
    names.sort(key=_place)
    lines = []
    for name in names:
        detail = _parent(name) in names
        shown = f".{name.removeprefix(_parent(name) + '.')}" if detail else name
        estimates = [run.row.metrics.get(name) for run in runs]
        lines.append({"shown": shown, "detail": detail, "estimates": estimates})
    return lines


def _parent(name: str) -> str:
    """Return the metric that ``name`` gives a detail of ("locality.silent" of "locality")."""
    return name.rpartition(".")[0]


def _place(name: str) -> tuple[bool, int, str, str]:
    """Order metrics: the well-known ones in their order, each with its details behind it, timings last."""
    family = next((known for known in FAMILIES if name == known or name.startswith(f"{known}.")), name)
    place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    return name in TIMING_METRICS, place, family, name


def _gaps(runs: Sequence[MethodRun]) -> list[tuple[str, list[tuple[Estimate | None, Estimate | None]]]]:
    """Return generated beside teacher-forced estimates of each method, where both were run."""
    by = {(run.row.method, run.row.protocol): run.row.metrics for run in runs}
    found = []
    for method in dict.fromkeys(run.row.method for run in runs):
        free, forced = by.get((method, "generate")), by.get((method, "teacher_forced"))
        if free is not None and forced is not None:
            found.append((method, [(free.get(name), forced.get(name)) for name in ("reliability", "generality")]))
    return found


def _figures(runs: Sequence[MethodRun]) -> list[Figure]:
    generated = [run for run in runs if run.row.protocol == "generate"]
    return [*_quality_plots(generated), *_threshold_plots(generated), *_latency_plots(generated)]


def _quality_plots(runs: Sequence[MethodRun]) -> Iterable[Figure]:
    counts = sorted({run.row.edits for run in runs})
    for metric in ("reliability", "generality", "locality", "rouge_l"):
        if len(counts) > 1:
            series = quality_by_edits(runs, metric)
            label, ticks = "edits in memory", [float(count) for count in counts]
        else:
            found = (quality_by_position(run, metric) for run in runs)
            series = [line for line in found if line is not None and len(line.points) > 1]
            label = "place of the edit in the stream"
            ticks = [counts[0] * i / 5 for i in range(6)] if counts else []
        if series:
            chart = line_chart(series, x_label=label, y_label="percent", y_range=_PERCENT, x_ticks=ticks)
            yield f"{metric} against the {'number of edits' if len(counts) > 1 else label}", chart


def _threshold_plots(runs: Sequence[MethodRun]) -> Iterable[Figure]:
    for run in runs:
        series = threshold_curves(run)
        if series:
            chart = line_chart(series, x_label="threshold", y_label="percent", y_range=_PERCENT, x_ticks=_SHARES)
            yield f"{run.row.method}: locality and hits against the scope's threshold", chart


def _latency_plots(runs: Sequence[MethodRun]) -> Iterable[Figure]:
    most = max((run.row.edits for run in runs), default=0)
    bars = [
        (run.row.method, run.row.metrics["milliseconds_per_query"].value)
        for run in runs
        if run.row.edits == most and "milliseconds_per_query" in run.row.metrics
    ]
    if bars:
        yield "Latency in batches", bar_chart(bars, y_label="milliseconds per query")


def _fired(failure: Failure, outcome: Outcome) -> str:
    return "\n".join(
        f"{firing.score:.3f}  {outcome.edits.get((failure.dataset, firing.edit), f'edit {firing.edit}')}"
        for firing in failure.fired
    )
