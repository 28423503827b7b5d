"""The report of a consolidated version as one HTML page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from memedit.evaluation.report.page import figure, number_cell, page, table, text_cell
from memedit.evaluation.report.svg import bar_chart

_COLOURS = {"PASS": "--c2", "WARN": "--c4", "INCONCLUSIVE": "--c7", "FAIL": "--c5", "SKIPPED": "--c7"}
_SHOWN = 200


def version_page(record: Mapping[str, Any], left_over: Sequence[Mapping[str, str]]) -> str:
    """Return the report of a version.

    Args:
        record: the version's record as plain values.
        left_over: edits that the memory goes on answering: id, prompt, target, reason.
    """
    served = sum(bool(edit["served"]) for edit in record["edits"])
    body = [
        f"<h1>{escape(record['base_name'])}, version {escape(record['name'])} {_badge(record['verdict'])}</h1>",
        f'<p class="dim">{escape(record["method"])}, {escape(record["created_at"])}, namespace '
        f"{escape(record['namespace'])}, base {escape(record['base_fingerprint'][:12])}, memedit "
        f"{escape(record['memedit'])}</p>",
        f"<p>{len(record['edits']):,} edits are in the weights. {served:,} passed their own check and are answered by "
        f"the weights alone; {len(left_over):,} of the job's edits stay with the memory. All gates were measured with "
        "the memory out of the way.</p>",
        *(f"<p>{escape(reason)}</p>" for reason in record["reasons"]),
        "<h2>Gates</h2>",
        _gates(record["gates"]),
        '<div class="plots">',
        *_plots(record),
        "</div>",
        *_left_over(left_over),
    ]
    return page(f"memedit version {record['name']}", body)


def _badge(verdict: str) -> str:
    return f'<span style="color:var({_COLOURS[verdict]})">{escape(verdict)}</span>'


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    rows = [_gate(gate) for gate in gates]
    return table(["gate", "verdict", "why", "base", "version", "n", "p"], rows, numeric_from=3)


def _gate(gate: Mapping[str, Any]) -> str:
    n, p_value = gate["n"], gate["p_value"]
    shown = "–" if p_value is None else f"{p_value:.2g}"
    return (
        f"<tr><td>{escape(gate['name'])}</td><td><b>{_badge(gate['verdict'])}</b></td>{text_cell(gate['reason'])}"
        f"{_number(gate['base'])}{_number(gate['candidate'])}{number_cell(f'{n:,}')}"
        f"{number_cell(shown, gate['test'] or '')}</tr>"
    )


def _number(value: float | None) -> str:
    return number_cell("–" if value is None else f"{value:,.2f}")


def _plots(record: Mapping[str, Any]) -> list[str]:
    shares = [(name.split(".mlp.")[0].rsplit(".", 1)[-1], 100 * d / w) for name, (d, w) in record["norms"].items() if w]
    figures = [figure("Change of each weight, in percent of its norm", bar_chart(shares, y_label="percent"))]
    seconds = [(stage, value) for stage, value in record["seconds"].items() if stage != "total"]
    if seconds:
        figures.append(figure("Where the time went", bar_chart(seconds, y_label="seconds")))
    return figures


def _left_over(edits: Sequence[Mapping[str, str]]) -> list[str]:
    if not edits:
        return []
    rows = [
        f"<tr>{text_cell(edit['prompt'])}{text_cell(edit['target'])}{text_cell(edit['reason'])}"
        f"<td><code>{escape(edit['id'])}</code></td></tr>"
        for edit in edits[:_SHOWN]
    ]
    more = f" (the first {_SHOWN} of {len(edits):,})" if len(edits) > _SHOWN else ""
    head = ["prompt", "target", "why not the weights", "id"]
    return [f"<h2>Edits that stay with the memory{more}</h2>", table(head, rows, numeric_from=len(head))]
