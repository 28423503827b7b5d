"""A whole evaluation on a tiny model: the promised files, the same again, the same after a kill, clear refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from memedit.errors import DatasetError, InputError, ModelNotFoundError, UnknownNameError
from memedit.evaluation.datasets import name_files
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.results import TIMING_METRICS
from memedit.evaluation.runner import Progress
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import StreamOrder
from memedit.training.reader.run import train_reader
from memedit.training.reader.trainer import ReaderSettings
from memedit.workflows.evaluate import EvaluationConfig, evaluate
from memedit.workflows.evaluate.scope import run_laboratory
from memedit.workflows.evaluate.suite import suite_files
from support.evaluation_cases import counterfact_rows, run_on_tiny_model, tiny_loaded, write_rows
from support.hashing_encoder import HashingEncoder

pytestmark = pytest.mark.slow

FORM = {"method", "model", "dataset", "edits", "queries", "protocol", "metrics"}


@pytest.fixture(autouse=True)
def tiny_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on a tiny random model and an encoder without a network; everything else is the real thing."""
    run_on_tiny_model(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The written facts, and the first of them contradicted at the end."""
    rows = counterfact_rows()
    return write_rows(tmp_path / "facts.jsonl", [*rows, {**rows[0], "target_new": "Holm"}])


def config(path: Path, **changes: Any) -> EvaluationConfig:
    settings = EvalSettings(batch_size=4, fluency_queries=2, fluency_tokens=8)
    values = {
        "data": tuple(name_files([path], [])), "methods": ("in_context",), "model": "tiny", "scope": "subject",
        "protocols": (Protocol.GENERATE, Protocol.TEACHER_FORCED), "settings": settings, **changes,
    }  # fmt: skip
    return EvaluationConfig(**values)


def without_timings(out: Path) -> Any:
    document = json.loads((out / "results.json").read_text())
    for row in document["rows"]:
        row["metrics"] = {name: value for name, value in row["metrics"].items() if name not in TIMING_METRICS}
    return document


def test_the_promised_files_in_the_promised_form(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    evaluate(config(data), out, use_cache=False)
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [(row["method"], row["protocol"]) for row in rows] == [
        (method, protocol)
        for method in ("base", "rag", "oracle", "in_context")
        for protocol in ("generate", "teacher_forced")
    ]
    for row in rows:
        assert set(row) == FORM
        assert (row["dataset"], row["edits"], row["model"]) == ("counterfact", 7, "tiny")
        # how many contradict each other is the memory's to say; the repeated prompt surely does
        assert row["metrics"]["superseded"]["value"] == 7 - row["queries"] >= 1
        for name, metric in row["metrics"].items():
            assert set(metric) == {"value", "n", "ci_low", "ci_high"}, name
            assert metric["ci_low"] <= metric["value"] <= metric["ci_high"], name
            assert metric["n"] >= 1
        assert row["metrics"]["peak_rss_mb"]["value"] > 10
    generated = {row["method"]: row["metrics"] for row in rows if row["protocol"] == "generate"}
    assert generated["base"]["locality"]["value"] == 100
    assert generated["oracle"]["locality"]["value"] == 100
    assert generated["oracle"]["routing_recall"]["value"] == 100
    assert generated["rag"]["locality.silent"]["value"] == 0
    assert "routing_recall" not in generated["base"]
    assert {"fluency", "consistency", "tokens_per_second", "generality.contains"} <= set(generated["in_context"])
    manifest = (out / "manifest.json").read_text()
    assert str(tmp_path) not in manifest
    assert json.loads(manifest)["data"][0]["file"] == "facts.jsonl"
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") >= 3


def test_two_runs_agree_apart_from_timings_and_a_killed_one_with_them(tmp_path: Path, data: Path) -> None:
    evaluate(config(data), tmp_path / "one", use_cache=False)
    evaluate(config(data), tmp_path / "two", cache=tmp_path / "cache.sqlite")
    seen: list[Progress] = []

    def kill_at(count: int) -> Any:
        def callback(progress: Progress) -> None:
            seen.append(progress)
            if len(seen) == count:
                raise KeyboardInterrupt

        return callback

    for count in (3, 12, 30):
        with pytest.raises(KeyboardInterrupt):
            evaluate(config(data), tmp_path / "killed", use_cache=False, progress=kill_at(count))
        seen.clear()
    evaluate(config(data), tmp_path / "killed", use_cache=False)
    wanted = without_timings(tmp_path / "one")
    assert without_timings(tmp_path / "two") == wanted
    assert without_timings(tmp_path / "killed") == wanted
    for name in ("comparisons.json",):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "one" / name).read_text()


def test_a_finished_run_is_answered_from_its_journal(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(config(data), tmp_path / "out", use_cache=False)
    before = (tmp_path / "out" / "results.json").read_text()
    monkeypatch.setattr("memedit.workflows.evaluate.stage.fill_memory", lambda *_: pytest.fail("the memory was filled"))
    evaluate(config(data), tmp_path / "out", use_cache=False)
    assert (tmp_path / "out" / "results.json").read_text() == before
    # another configuration in the same folder is another run
    monkeypatch.undo()
    assert len(list((tmp_path / "out").glob("journal-*.jsonl"))) == 1


def test_sharing_baselines_changes_no_answer(tmp_path: Path, data: Path) -> None:
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    settings = EvalSettings(batch_size=4, fluency_queries=2, fluency_tokens=8)
    evaluate(config(data, settings=settings), shared, use_cache=False)
    evaluate(
        config(data, settings=EvalSettings(**{**settings.as_json(), "share_baselines": False})), alone, use_cache=False
    )
    assert without_timings(shared) == without_timings(alone)


def test_streams_and_several_numbers_of_edits(tmp_path: Path, data: Path) -> None:
    changes = {"edits": (3, 7), "stream": StreamOrder(2), "protocols": (Protocol.GENERATE,), "queries": 2}
    outcome = evaluate(config(data, **changes), tmp_path / "out", use_cache=False)
    assert [(row.method, row.edits, row.queries) for row in outcome.rows if row.method == "in_context"] == [
        ("in_context", 3, 2), ("in_context", 7, 2),
    ]  # fmt: skip
    by_edits = {row.edits: row.metrics for row in outcome.rows if row.method == "in_context"}
    assert by_edits[3]["superseded"].value < by_edits[7]["superseded"].value
    assert by_edits[7]["superseded"].value >= 1
    assert by_edits[7]["seconds_per_edit"].n == 4  # chunks
    assert "against the number of edits" in (tmp_path / "out" / "report.html").read_text()


def test_perplexity_and_capability_go_through_every_method(tmp_path: Path, data: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The river Aune runs past Vessin and on to the sea. " * 60)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    write_rows(tasks / "sst2.jsonl", [{"sentence": f"good {i}", "label": i % 2, "idx": i} for i in range(6)])
    settings = EvalSettings(batch_size=8, fluency_queries=0, perplexity_tokens=500, capability_questions=4)
    changes = {"protocols": (Protocol.GENERATE,), "perplexity": text, "capability": tasks, "settings": settings}
    outcome = evaluate(config(data, **changes), tmp_path / "out", use_cache=False)
    rows = {row.method: row.metrics for row in outcome.rows}
    assert rows["base"]["perplexity"].value > 1
    assert rows["base"]["perplexity"].n >= 500
    assert rows["in_context"]["capability.sst2"].n == 4
    assert rows["oracle"]["perplexity"] == rows["base"]["perplexity"]


def test_refusals_come_before_any_work(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnknownNameError, match="in_context"):
        evaluate(config(data, methods=("in_contxt",)), out)
    with pytest.raises(UnknownNameError, match="unknown scope"):
        evaluate(config(data, scope="nonsense"), out)
    with pytest.raises(InputError, match="no data file"):
        evaluate(config(data, data=()), out)
    with pytest.raises(InputError, match="queries must be at least 1"):
        evaluate(config(data, queries=0), out)
    good = config(data)
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"line 7: not valid JSON.*cut off"):
        evaluate(good, out)
    assert not out.exists()


def test_weights_of_ones_own_are_evaluated_in_place_of_shipped_ones(tmp_path: Path, data: Path) -> None:
    folder, quick = tmp_path / "reader", ReaderSettings(steps=1, batch=2, world=0)
    train_reader(tiny_loaded(), data=(), whole=[data], out=folder, settings=quick)
    named = {"methods": ("reader",), "baselines": False, "protocols": (Protocol.GENERATE,)}
    with pytest.raises(ModelNotFoundError, match="no reader ships for this base model"):
        evaluate(config(data, **named), tmp_path / "without")
    outcome = evaluate(config(data, trained={"reader": folder}, **named), tmp_path / "with")
    assert {row.method for row in outcome.rows} == {"base", "reader"}
    with pytest.raises(InputError, match="weights are given for recipe, which no method uses"):
        evaluate(config(data, trained={"recipe": folder}, **named), tmp_path / "unused")


def test_the_suite_takes_what_it_knows(tmp_path: Path, data: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"a": 1}\n')
    assert [f.name for f in suite_files(tmp_path)] == ["counterfact"]
    with pytest.raises(InputError, match="not a folder"):
        suite_files(data)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no data file of a known form"):
        suite_files(empty)


def test_the_scope_laboratory_needs_no_model(tmp_path: Path, data: Path) -> None:
    found = run_laboratory(
        name_files([data], []), ["similarity", "subject", "default"], tmp_path / "lab", encoder=HashingEncoder()
    )
    assert json.loads((tmp_path / "lab" / "scope.json").read_text()) == found
    rows = {row["scope"]: row for row in found["rows"]}
    assert {"similarity", "subject"} <= set(rows)
    area = rows["subject"]["auc"]["paraphrase_vs_stranger"]
    assert area["ci_low"] <= area["value"] <= area["ci_high"] <= 1
    assert area["value"] > 0.5
    for row in found["rows"]:
        assert row["auc"]["paraphrase_vs_stranger.any_edit"]["value"] >= row["auc"]["paraphrase_vs_stranger"]["value"]
    assert rows["subject"]["at_threshold"]["edit.missed"]["value"] == 0
    curve = rows["similarity"]["curve"]
    missed = [point["paraphrase.missed"] for point in curve]
    disturbed = [point["stranger.disturbed"] for point in curve]
    assert missed == sorted(missed)
    assert disturbed == sorted(disturbed, reverse=True)
    assert "<svg" in (tmp_path / "lab" / "scope.html").read_text()
    with pytest.raises(InputError, match="at least one of each"):
        run_laboratory([], ["subject"], tmp_path / "x")
