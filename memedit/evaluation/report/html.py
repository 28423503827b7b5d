"""The report as one HTML page: tables, plots, and the worst failures to read."""

import json
from collections.abc import Iterable, Sequence
from html import escape

from memedit.evaluation.metrics.statistics import Estimate
from memedit.evaluation.outcome import BASELINES, MethodRun, Outcome
from memedit.evaluation.report.figures import quality_by_edits, quality_by_position, threshold_curves
from memedit.evaluation.report.page import figure, number_cell, page, table, text_cell
from memedit.evaluation.report.results import TIMING_METRICS, Comparison
from memedit.evaluation.report.svg import bar_chart, line_chart
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
    body = [
        f"<h1>Evaluation of {escape(str(manifest.get('model', '')))}</h1>",
        f'<p class="dim">memedit {escape(str(manifest.get("versions", {}).get("memedit", "")))}, '
        f"stream {escape(str(manifest.get('stream', 'batch')))}, seed {outcome.seed}. Rates are percentages with 95% "
        "intervals (Wilson for rates, bootstrap for means); n under each. Only edits in force are asked about, all of "
        "them after the whole stream.</p>",
    ]
    datasets = list(dict.fromkeys(run.row.dataset for run in outcome.runs))
    for dataset in datasets:
        body += _dataset(outcome, dataset)
    body += _failures(outcome)
    body += _comparisons(outcome.comparisons())
    listed = escape(json.dumps(manifest, indent=2, ensure_ascii=False))
    body.append(f"<details><summary>Manifest</summary><pre><code>{listed}</code></pre></details>")
    return page(f"memedit evaluation: {', '.join(datasets)}", body)


def _dataset(outcome: Outcome, dataset: str) -> list[str]:
    runs = [run for run in outcome.runs if run.row.dataset == dataset]
    parts = [f"<h2>{escape(dataset)}</h2>"]
    for edits in dict.fromkeys(run.row.edits for run in runs):
        at = [run for run in runs if run.row.edits == edits]
        superseded = next((r.row.metrics["superseded"].value for r in at if "superseded" in r.row.metrics), 0)
        parts.append(
            f"<p>{edits:,} edits in the stream, {superseded:,.0f} superseded by a later one, "
            f"{at[0].row.queries:,} cases asked about.</p>"
        )
        for protocol in dict.fromkeys(run.row.protocol for run in at):
            parts.append(f'<h3>Protocol <code>{protocol}</code> <span class="dim">{PROTOCOLS[protocol]}</span></h3>')
            parts.append(_metrics_table([run for run in at if run.row.protocol == protocol]))
        parts.append(_gap_table(at))
    return [*parts, *_plots(runs)]


def _metrics_table(runs: Sequence[MethodRun]) -> str:
    """Return a line for each metric, a column for each method."""
    names = [n for n in dict.fromkeys(n for run in runs for n in run.row.metrics) if n != "superseded"]
    names.sort(key=_place)
    rows = []
    for name in names:
        detail = _parent(name) in names
        style = ' class="detail"' if detail else ""
        shown = f".{name.removeprefix(_parent(name) + '.')}" if detail else name
        cells = "".join(_estimate_cell(run.row.metrics.get(name)) for run in runs)
        rows.append(f"<tr{style}><td>{escape(shown)}</td>{cells}</tr>")
    head = [run.row.method + (" (baseline)" if run.row.method in BASELINES else "") for run in runs]
    return table(["metric", *head], rows)


def _parent(name: str) -> str:
    """Return the metric that ``name`` gives a detail of ("locality.silent" of "locality")."""
    return name.rpartition(".")[0]


def _place(name: str) -> tuple[bool, int, str, str]:
    """Order metrics: the well-known ones in their order, each with its details behind it, timings last."""
    family = next((known for known in FAMILIES if name == known or name.startswith(f"{known}.")), name)
    place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    return name in TIMING_METRICS, place, family, name


def _estimate_cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return '<td class="num dim">–</td>'
    low, high = _number(estimate.ci_low), _number(estimate.ci_high)
    return number_cell(_number(estimate.value), f"{low}–{high}, n={estimate.n:,}")


def _number(value: float) -> str:
    return f"{value:.3g}" if 0 < abs(value) < 1 else f"{value:,.1f}"


def _gap_table(runs: Sequence[MethodRun]) -> str:
    """Return generated beside teacher-forced numbers of each method, where both were run."""
    by = {(run.row.method, run.row.protocol): run.row.metrics for run in runs}
    rows = []
    for method in dict.fromkeys(run.row.method for run in runs):
        free, forced = by.get((method, "generate")), by.get((method, "teacher_forced"))
        if free is None or forced is None:
            continue
        cells = ""
        for metric in ("reliability", "generality"):
            pair = free.get(metric), forced.get(metric)
            gap = f"{pair[1].value - pair[0].value:+.1f}" if pair[0] and pair[1] else "–"
            cells += _estimate_cell(pair[0]) + _estimate_cell(pair[1]) + number_cell(gap)
        rows.append(f"<tr><td>{escape(method)}</td>{cells}</tr>")
    if not rows:
        return ""
    head = ["method", *(f"{m} {p}" for m in ("reliability", "generality") for p in ("generated", "forced", "gap"))]
    return "<h3>How much teacher forcing flatters</h3>" + table(head, rows)


def _plots(runs: Sequence[MethodRun]) -> list[str]:
    generated = [run for run in runs if run.row.protocol == "generate"]
    figures = [*_quality_plots(generated), *_threshold_plots(generated), *_latency_plots(generated)]
    return ['<div class="plots">', *figures, "</div>"] if figures else []


def _quality_plots(runs: Sequence[MethodRun]) -> Iterable[str]:
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
            yield figure(f"{metric} against the {'number of edits' if len(counts) > 1 else label}", chart)


def _threshold_plots(runs: Sequence[MethodRun]) -> Iterable[str]:
    for run in runs:
        series = threshold_curves(run)
        if series:
            chart = line_chart(series, x_label="threshold", y_label="percent", y_range=_PERCENT, x_ticks=_SHARES)
            yield figure(f"{run.row.method}: locality and hits against the scope's threshold", chart)


def _latency_plots(runs: Sequence[MethodRun]) -> Iterable[str]:
    most = max((run.row.edits for run in runs), default=0)
    bars = [
        (run.row.method, run.row.metrics["milliseconds_per_query"].value)
        for run in runs
        if run.row.edits == most and "milliseconds_per_query" in run.row.metrics
    ]
    if bars:
        yield figure("Latency in batches", bar_chart(bars, y_label="milliseconds per query"))


def _failures(outcome: Outcome) -> list[str]:
    worst = outcome.worst_failures()
    if not worst:
        return []
    head = ["data", "method", "judged as", "prompt", "wanted", "answered", "untouched base", "edits that fired"]
    rows = [_failure_row(failure, outcome) for failure in worst]
    title = f"<h2>The {len(worst)} worst failures</h2>"
    note = (
        '<p class="dim">Failed edits first, then disturbed unrelated prompts, paraphrases, and the rest; taken in turn '
        "from every data set and method. For locality and specificity the base's answer is the wanted one.</p>"
    )
    return [title, note, table(head, rows, numeric_from=len(head))]


def _failure_row(failure: Failure, outcome: Outcome) -> str:
    fired = "\n".join(
        f"{firing.score:.3f}  {outcome.edits.get((failure.dataset, firing.edit), f'edit {firing.edit}')}"
        for firing in failure.fired
    )
    texts = (failure.prompt, failure.wanted, failure.answer, failure.base, fired or "none")
    names = "".join(f"<td>{escape(name)}</td>" for name in (failure.dataset, failure.method, failure.metric))
    return f"<tr>{names}{''.join(map(text_cell, texts))}</tr>"


def _comparisons(found: Sequence[Comparison]) -> list[str]:
    if not found:
        return []
    head = ["data", "protocol", "metric", "first", "second", "edits", "second minus first", "p", "test", "n"]
    rows = [
        f"<tr><td>{escape(c.dataset)}</td><td>{c.protocol}</td><td>{escape(c.metric)}</td><td>{escape(c.first)}</td>"
        f"<td>{escape(c.second)}</td>{number_cell(f'{c.edits:,}')}"
        f"{number_cell(f'{c.test.difference:+.2f}', f'{c.test.ci_low:+.1f} to {c.test.ci_high:+.1f}')}"
        f"{number_cell(f'{c.test.p_value:.2g}')}{number_cell(c.test.test)}{number_cell(f'{c.test.n:,}')}</tr>"
        for c in found
    ]
    summary = f"Paired comparisons ({len(found)}), in percentage points"
    return [f"<details><summary>{summary}</summary>", table(head, rows, numeric_from=5), "</details>"]
