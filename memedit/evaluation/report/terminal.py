"""Compact tables for the terminal. They are returned, not printed."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from memedit.evaluation.metrics.statistics import Estimate
from memedit.evaluation.results import TIMING_METRICS, ResultRow

_FIRST = (
    "reliability", "reliability.contains", "generality", "generality.contains", "locality", "locality_touched",
    "specificity", "efficacy", "paraphrase_efficacy", "portability.reasoning", "portability.alias",
    "portability.multi_hop", "rouge_l", "rouge_l_paraphrase", "fluency", "consistency", "perplexity",
    "routing_recall", "routing_precision",
)  # fmt: skip
"""Metrics that are shown, in this order; capability tasks and timings follow, everything else is in the files."""


def results_tables(rows: Sequence[ResultRow]) -> list[Table]:
    """Return one table for each data set, number of edits and protocol: a line for each metric, a column a method."""
    groups: dict[tuple[str, int, str], list[ResultRow]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.edits, row.protocol), []).append(row)
    return [_table(group) for group in groups.values()]


def _table(rows: Sequence[ResultRow]) -> Table:
    first = rows[0]
    superseded = first.metrics.get("superseded")
    gone = f" ({superseded.value:.0f} superseded)" if superseded else ""
    title = (
        f"{first.dataset}, {first.protocol}: {first.edits:,} edits{gone}, {first.queries:,} cases asked, {first.model}"
    )
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("percent unless timed", no_wrap=True)
    table.add_column("n", justify="right", style="dim")
    for row in rows:
        table.add_column(Text(row.method), justify="right")
    for name in _shown(rows):
        n = next(row.metrics[name].n for row in rows if name in row.metrics)
        table.add_row(name, f"{n:,}", *(_cell(row.metrics.get(name)) for row in rows))
    return table


def _shown(rows: Sequence[ResultRow]) -> list[str]:
    present = dict.fromkeys(name for row in rows for name in row.metrics)
    tasks = [name for name in present if name.startswith("capability.")]
    return [name for name in (*_FIRST, *tasks, *TIMING_METRICS) if name in present]


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.value:.3g}" if 0 < abs(estimate.value) < 1 else f"{estimate.value:,.1f}"


def scope_table(laboratory: dict[str, Any]) -> Table:
    """Return the scope laboratory as a table: AUCs with intervals and n, rates at each scope's own threshold."""
    rows = laboratory["rows"]
    areas = list(dict.fromkeys(name for row in rows for name in row["auc"]))
    rates = list(dict.fromkeys(name for row in rows for name in row["at_threshold"]))
    table = Table(title="scope laboratory", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("data", "scope", "thr."):
        table.add_column(column, no_wrap=True)
    for name in areas:
        table.add_column(f"AUC {name.replace('_vs_', '/')}", justify="right")
    for name in rates:
        table.add_column(name, justify="right")
    for row in rows:
        cells = [_area(row["auc"].get(name)) for name in areas]
        cells += [
            "-" if name not in row["at_threshold"] else f"{row['at_threshold'][name]['value']:.1f}" for name in rates
        ]
        table.add_row(Text(row["dataset"]), row["scope"], f"{row['threshold']:.3f}", *cells)
    return table


def _area(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate['value']:.4f} [{estimate['ci_low']:.4f}, {estimate['ci_high']:.4f}] n={estimate['n']:,}"


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.1f} [{estimate['ci_low']:.1f}, {estimate['ci_high']:.1f}]"


def asks_table(report: dict[str, Any]) -> Table:
    """Return what a scope made of asks as a table, with intervals and n."""
    title = f"scope {report['scope']}, threshold {report['threshold']:.3f}"
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("asked", "n", "right", "another fires"):
        table.add_column(column, justify="left" if column == "asked" else "right")
    for row in report["rows"]:
        table.add_row(
            Text(row["kind"]), f"{row['right']['n']:,}", _interval(row["right"]), _interval(row["another_fires"])
        )
    return table


def answers_table(report: dict[str, Any]) -> Table:
    """Return what a model made of asks as a table: how many edits fired, and how many of their answers were right."""
    title = f"{report['file']}, adapter {report['adapter']}"
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("asked", "n", "edit fired", "n", "answered rightly"):
        table.add_column(column, justify="left" if column == "asked" else "right")
    for row in report["rows"]:
        fired, right = row["fired"], row["right"]
        told = ("0", "-") if right is None else (f"{right['n']:,}", _interval(right))
        table.add_row(Text(row["kind"]), f"{fired['n']:,}", _interval(fired), *told)
    return table


def conflicts_table(report: dict[str, Any]) -> Table:
    """Return what happened to true facts and to contradictions as a table, with intervals and n."""
    table = Table(title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("share of", "n", "percent"):
        table.add_column(column, justify="left" if column == "share of" else "right")
    words = {
        "retired": "true facts retired by other true facts",
        "found": "contradictions in other words that retire what they contradict",
        "beside": "contradictions that retire another fact",
    }
    for name, said in words.items():
        table.add_row(said, f"{report[name]['n']:,}", _interval(report[name]))
    return table


def passages_table(found: dict[str, Any]) -> Table:
    """Return the look-up of running text as a table: where a question stood, and what fired, with intervals."""
    settings = found["settings"]
    title = f"{settings['edits']:,} edits, passages of {settings['words']} words, scope {settings['scope']}"
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("question", "n", "its edit fires", "another fires"):
        table.add_column(column, justify="left" if column == "question" else "right")
    nothing = found["passages.fired"]
    table.add_row("none", f"{nothing['n']:,}", "-", _interval(nothing))
    for name, hit in found.items():
        place, _, what = name.partition(".")
        if what == "hit":
            table.add_row(place, f"{hit['n']:,}", _interval(hit), _interval(found[f"{place}.other"]))
    return table
