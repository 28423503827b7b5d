"""The six further rows in a whole evaluation on a tiny model: tables, files, a run that goes on, and invariants."""

import json
from pathlib import Path
from typing import Any

import pytest

from memedit.consolidation import ConsolidationSettings
from memedit.errors import InputError, UnknownNameError
from memedit.evaluation.datasets import name_files
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.rows import ROWS
from memedit.evaluation.settings import EvalSettings
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidate.settings import Check, JobSettings
from memedit.workflows.evaluate import EvaluationConfig, evaluate
from support.evaluation_cases import counterfact_rows, run_on_tiny_model, write_rows

pytestmark = pytest.mark.slow

SOLVER = ConsolidationSettings(layers=(0, 1), steps=2, contexts=1, sensitivity_tokens=64)


@pytest.fixture(autouse=True)
def tiny_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    run_on_tiny_model(monkeypatch)


def config(folder: Path, **changes: Any) -> EvaluationConfig:
    data = write_rows(folder / "facts.jsonl", counterfact_rows())
    values = {
        "data": tuple(name_files([data], [])), "methods": ("in_context",), "model": "tiny", "scope": "subject",
        "rows": tuple(ROWS), "baselines": False,
        "settings": EvalSettings(batch_size=8, fluency_queries=0, samples=2), **changes,
    }  # fmt: skip
    return EvaluationConfig(**values)


def test_every_row_finds_something_about_every_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    evaluate(config(tmp_path), out, use_cache=False)
    document = json.loads((out / "rows.json").read_text(encoding="utf-8"))
    found = {(item["method"], item["row"]): item for item in document["findings"]}
    assert set(found) == {("oracle", "propagation"), *((m, row) for m in ("base", "in_context") for row in ROWS)}
    by_relation = found["in_context", "relations"]["tables"][0]
    assert {line[0] for line in by_relation["lines"]} >= {"native language", "(other)", "all"}
    whole = by_relation["lines"][-1]
    weighted = found["in_context", "relations"]["facts"]["weighted"]
    assert weighted["reliability"] == pytest.approx(whole[2]["value"])
    assert sum(line[1] for line in by_relation["lines"][:-1]) == whole[1]
    for method in ("base", "in_context"):
        metrics = found[method, "shattering"]["metrics"]["shattering.r"]
        assert (metrics["value"], metrics["ci_high"]) == (0.0, 0.0), "a memory bends nothing"
        assert found[method, "collapse"]["facts"]["rise_percent"] == 0.0
        assert found[method, "collapse"]["facts"]["verdict"] == "PASS"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))["rows"]
    metrics = {row["method"]: row["metrics"] for row in results}
    assert metrics["in_context"]["leak.rate"]["n"] == metrics["base"]["leak.rate"]["n"] > 6
    assert "propagation.verbatim" in metrics["oracle"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(f"<code>{row}</code>" in page for row in ROWS)
    assert "Answers by distance from the edit" in page

    def must_not(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(BareAnswerer, "_generated", must_not)
    before = (out / "rows.json").read_bytes()
    evaluate(config(tmp_path), out, use_cache=False)
    assert (out / "rows.json").read_bytes() == before, "answers are the journal's"


def test_weights_bend_what_a_memory_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    job = JobSettings(solver=SOLVER, statistics_tokens=100, check=Check.EXACT, rounds=1)
    settings = config(tmp_path, methods=("weights:memit",), rows=("shattering",), consolidation=job)
    outcome = evaluate(settings, tmp_path / "out", use_cache=False)
    by_method = {run.row.method: run for run in outcome.runs}
    assert by_method["base"].row.metrics["shattering.r"].value == 0.0
    assert by_method["weights:memit"].row.metrics["shattering.r"].value > 0.0
    assert all(value > 0 for value in by_method["weights:memit"].findings[0].facts["random"])


def test_forgetting_is_measured_by_what_leaks(tmp_path: Path) -> None:
    outcome = evaluate(config(tmp_path, forget=True, rows=("leak",)), tmp_path / "out", use_cache=False)
    texts = {text for text in outcome.edits.values()}
    assert texts
    assert all(text.endswith("I can't say.") for text in texts)


def test_wrong_requests_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="relations"):
        evaluate(config(tmp_path, rows=("relation",)), tmp_path / "out")
    with pytest.raises(InputError, match="generate"):
        evaluate(config(tmp_path, protocols=(Protocol.TEACHER_FORCED,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
