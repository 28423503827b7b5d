"""Pages of reports: what comes from data or a model is text, and charts are drawn where their numbers say."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from memedit.consolidation.trace import KINDS, PLACES, Trace
from memedit.evaluation.metrics.statistics import Estimate
from memedit.evaluation.outcome import MethodRun, Outcome
from memedit.evaluation.report.asks_page import asks_page
from memedit.evaluation.report.evaluation_page import report_page
from memedit.evaluation.report.growth_page import growth_page
from memedit.evaluation.report.scope_page import scope_page
from memedit.evaluation.report.svg import Series, bar_chart, heat_map, line_chart
from memedit.evaluation.report.trace_page import trace_page
from memedit.evaluation.report.version_page import version_page
from memedit.evaluation.results import ResultRow
from memedit.evaluation.scoring import Observations

EVIL = "<script>alert('x')</script> & \"more\""
ESCAPED = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;more&#34;"
SHARE: Any = {"value": 50.0, "n": 1200, "ci_low": 30.0, "ci_high": 70.0}


def _asks() -> str:
    row = {"kind": EVIL, "right": SHARE, "another_fires": SHARE}
    worst = {"kind": "1 wording", "text": EVIL, "wanted": EVIL, "fired": EVIL, "own": 0.25, "other": 0.5}
    reliability = [{"score": 0.1, "right": 20.0, "n": 9}, {"score": 0.9, "right": 80.0, "n": 9}]
    report = {"scope": EVIL, "threshold": 0.5, "files": [EVIL], "rows": [row], "worst": [worst]}
    return asks_page({**report, "reliability": reliability})


def _scope() -> str:
    curve = [
        {"threshold": share, "paraphrase.missed": 10 * share, "stranger.disturbed": 10 - 10 * share}
        for share in (0.0, 0.5, 1.0)
    ]
    row = {"dataset": EVIL, "scope": EVIL, "edits": 1200, "threshold": 0.5, "auc": {"p_vs_s": SHARE}, "curve": curve}
    other = {**row, "auc": {}, "at_threshold": {}}
    return scope_page({"rows": [{**row, "at_threshold": {EVIL: SHARE}}, other]})


def _growth() -> str:
    kinds = {kind: SHARE for kind in ("efficacy", "paraphrase", "specificity", "perplexity")}
    base = {"method": "base", "stream": "batch", "edits": 0, "specificity": SHARE, "perplexity": SHARE}
    return growth_page([base, *({"method": EVIL, "stream": EVIL, "edits": n, **kinds} for n in (10, 1000))])


def _version() -> str:
    gate = {"name": EVIL, "verdict": "FAIL", "reason": EVIL, "base": 1.0, "candidate": None, "n": 1200}
    record = {
        "base_name": EVIL, "name": EVIL, "verdict": "WARN", "method": EVIL, "created_at": "now", "namespace": EVIL,
        "base_fingerprint": "0123456789abcdef", "memedit": "0.0", "edits": [{"served": True}], "reasons": [EVIL],
        "gates": [{**gate, "p_value": None, "test": None}, {**gate, "p_value": 0.0123, "test": EVIL}],
        "norms": {"model.layers.4.mlp.down_proj": (1.0, 50.0)}, "seconds": {EVIL: 3.0, "total": 3.0},
    }  # fmt: skip
    return version_page(record, [{"id": EVIL, "prompt": EVIL, "target": EVIL, "reason": EVIL}] * 201)


def _trace() -> str:
    effects = {kind: np.arange(len(PLACES) * 30, dtype=float).reshape(len(PLACES), 30) for kind in KINDS}
    return trace_page(Trace(effects, 0.5, 0.1, 12, 5, (3, 4, 5)), EVIL)


def _evaluation() -> str:
    found = {"reliability": Estimate(50, 1200, 30, 70), "reliability.contains": Estimate(0.5, 9, 0, 1)}
    runs = [
        MethodRun(ResultRow(method, EVIL, EVIL, edits, 1200, protocol, found), Observations())
        for method in ("base", EVIL)
        for protocol in ("generate", "teacher_forced")
        for edits in (10, 1000)
    ]
    return report_page(Outcome(tuple(runs), {"model": EVIL, "versions": {"memedit": EVIL}}, {}))


@pytest.mark.parametrize("draw", [_asks, _scope, _growth, _version, _trace, _evaluation])
def test_markup_in_what_is_shown_is_escaped(draw: Any) -> None:
    page = draw()
    assert "<script" not in page
    assert ESCAPED in page
    assert "&amp;lt;" not in page  # once, not twice
    assert not re.search(r"(src|href)=", page)
    for drawn in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawn)


def test_pages_show_their_figures() -> None:
    page = _version()
    assert "1 edits are in the weights. 1 passed" in page
    assert "201 of the job" in page
    assert "(the first 200 of 201)" in page
    assert '<td class="num">0.012<small>' in page
    page = _evaluation()
    assert '<td class="num">50.0<small>30.0–70.0, n=1,200</small></td>' in page
    assert '<tr class="detail"><td>.contains</td>' in page
    assert "How much teacher forcing flatters" in page
    assert "base (baseline)" in page
    assert "reliability against the number of edits" in page
    assert '<td class="num">50.0000<small>30.0000–70.0000, n=1,200</small></td>' in _scope()
    assert '<td class="num dim">–</td>' in _scope()


def test_text_is_shortened_as_text() -> None:
    record: dict[str, Any] = {
        name: "" for name in ("base_name", "name", "method", "created_at", "namespace", "base_fingerprint", "memedit")
    }
    record |= {"verdict": "PASS", "edits": [], "reasons": [], "gates": [], "norms": {}, "seconds": {}}
    page = version_page(record, [{"id": "1", "prompt": "<" * 500, "target": "t", "reason": "r"}])
    assert f'<td class="text">{"&lt;" * 399}…</td>' in page


def _all(drawn: str, tag: str) -> list[dict[str, str]]:
    svg = ElementTree.fromstring(re.findall("<svg.*?</svg>", drawn, re.DOTALL)[0])
    return [dict(element.attrib) for element in svg.iter(tag)]


def test_lines_are_where_their_numbers_say() -> None:
    series = [Series("a", ((0.0, 0.0), (10.0, 100.0)), ((0.0, 50.0), (50.0, 100.0)))]
    drawn = line_chart(series, x_label="x", y_label="y", y_range=(0, 100), x_ticks=[0, 10])
    assert _all(drawn, "polyline")[0]["points"] == "52.0,256.0 534.0,14.0"
    intervals = [line for line in _all(drawn, "line") if "style" in line]
    assert [(line["y1"], line["y2"]) for line in intervals] == [("135.0", "256.0"), ("14.0", "135.0")]
    assert "a: 100 at 10" in drawn


def test_bars_are_as_high_as_their_numbers() -> None:
    low, high = _all(bar_chart([("one", 1.0), ("two", 2.0)], y_label="s"), "rect")
    assert float(high["height"]) == pytest.approx(2 * float(low["height"]), abs=0.2)


def test_a_heat_map_is_darkest_at_the_highest_value() -> None:
    drawn = heat_map([[0.0, 0.5], [-1.0, 0.25]], ["a", "b"], x_label="layer", outlined=[1])
    cells, scale = _all(drawn, "rect")[:4], _all(drawn, "rect")[5:]
    assert [float(cell["fill-opacity"]) for cell in cells] == [0, 1, 0, 0.5]
    assert len(scale) == 5
    frame = _all(drawn, "rect")[4]
    assert (frame["x"], frame["width"]) == (cells[1]["x"], cells[1]["width"])
    assert all(float(cell["fill-opacity"]) == 0 for cell in _all(heat_map([[0.0]], ["a"], x_label=""), "rect")[:1])
