"""The growth of edits in weights, on a tiny model: every method and stream has its row, and kept work is used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memedit.bench import hard
from memedit.bench import weights as bench_weights
from memedit.bench.weights import Plan, run
from memedit.consolidation import ConsolidationSettings
from memedit.consolidation.sequential import solve_in_turn
from memedit.errors import InputError
from memedit.evaluation.report.growth_page import growth_page
from memedit.workflows.consolidate.statistics import build
from memedit.workflows.consolidate.trace import trace_model
from support.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

SETTINGS = ConsolidationSettings(layers=(0, 1), steps=20, contexts=2, context_tokens=(4,), clamp=20.0, damping=None)
NAMES = ("Fenwick", "Ostrava", "Quillon", "Brask", "Tolma", "Yarrow")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "cases.jsonl"
    rows = [
        {
            "prompt": f"{name} plays the", "target_new": "harp", "subject": name, "ground_truth": "drum",
            "rephrase_prompt": f"The thing {name} plays is the", "locality_prompt": "Zorro plays the",
            "locality_ground_truth": "lute",
        }
        for name in NAMES
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog. " * 30)
    return path


def _questions(tmp_path: Path) -> Path:
    folder = tmp_path / "capability"
    folder.mkdir(exist_ok=True)
    rows = [{"sentence": f"A {word} day.", "label": i % 2} for i, word in enumerate(("sad", "fine", "bad", "new"))]
    for task in ("cola", "sst2"):
        (folder / f"{task}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def _plan(model: Path, data: Path, text: Path, tmp_path: Path) -> Plan:
    return Plan(
        str(model), data, edits=(2, 5, 6), methods=("alphaedit", "rect", "ultraedit"), sequential=3,
        statistics_text=text, perplexity_text=text, perplexity_tokens=64, settings=SETTINGS, keep=tmp_path / "kept",
        capability=_questions(tmp_path), capability_questions=3, shattering=True,
    )  # fmt: skip


def test_every_method_has_its_row(
    model: Path, data: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    walked: list[list[int]] = []

    def walk(loaded: Any, batches: Any, *args: Any, **options: Any) -> Any:
        walked.append([len(batch) for batch in batches])
        return solve_in_turn(loaded, batches, *args, **options)

    monkeypatch.setattr(bench_weights, "solve_in_turn", walk)
    plan = _plan(model, data, text, tmp_path)
    found = run(plan)
    assert walked == [[3, 2, 1]] * 3, "a batch ends where figures are taken"
    rows = {(row["method"], row["stream"], row["edits"]): row for row in found["rows"]}
    methods = ("alphaedit", "rect", "ultraedit")
    assert set(rows) == {
        *((method, "batch", n) for method in ("base", *methods) for n in (2, 5, 6)),
        *((method, "sequential:3", n) for method in methods for n in (5, 6)),
    }
    in_turn = [rows["rect", "sequential:3", n] for n in (5, 6)]
    assert in_turn[0]["relative_change"] != in_turn[1]["relative_change"]
    assert in_turn[0]["solve_seconds"] < in_turn[1]["solve_seconds"]
    base, edited = rows["base", "batch", 6], rows["alphaedit", "batch", 6]
    assert edited["efficacy"]["value"] >= base["efficacy"]["value"]
    assert edited["perplexity"]["value"] != base["perplexity"]["value"]
    assert (base["capability"]["n"], base["capability.p_value"]) == (6, 1.0)
    assert 0 <= edited["capability.p_value"] <= 1
    assert all(0 < change < 10 for change in edited["relative_change"].values())
    assert {row["locality"]["n"] for row in found["rows"]} == {2, 5, 6}
    assert base["locality"]["value"] == 100.0
    assert found["layers"] == {"alphaedit": [0, 1], "rect": [0, 1], "ultraedit": [0, 1]}
    assert all(seconds > 0 for seconds in found["seconds_per_edit"].values())
    assert found["steps_per_edit"]["alphaedit"] > 0
    assert found["steps_per_edit"]["ultraedit"] == 0
    again = run(plan)
    assert set(again["seconds_per_edit"].values()) == {None}, "nothing was computed"
    assert again["rows"][-1]["efficacy"] == found["rows"][-1]["efficacy"]
    json.dumps(found)
    drawn = growth_page(found["rows"])
    assert drawn.count("<figure>") == 4
    assert "alphaedit, sequential:3" in drawn
    assert "NaN" not in drawn


def test_batch_after_batch_alone_computes_nothing_of_all_edits_at_once(
    model: Path, data: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    said: list[Any] = []
    plan = _plan(model, data, text, tmp_path)
    found = run(replace(plan, methods=("memit", "o_edit"), edits=(4,), joint=False, report=said.append))
    assert [(row["method"], row["stream"]) for row in found["rows"]] == [
        ("base", "batch"), ("memit", "sequential:3"), ("o_edit", "sequential:3"),
    ]  # fmt: skip
    assert said == found["rows"], "each row is told as it is measured"
    assert (found["seconds_per_edit"], plan.keep.exists()) == ({}, False)
    assert found["rows"][1]["relative_change"] != found["rows"][2]["relative_change"]


def test_too_few_edits_in_the_file_are_an_error(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match="holds 6 edits, 9"):
        run(Plan(str(model), data, edits=(9,), settings=SETTINGS))


def test_statistics_by_name_of_a_model(model: Path, text: Path, tmp_path: Path) -> None:
    found = build(str(model), texts=[text], settings=SETTINGS, store=tmp_path / "store")
    own = build(str(model), settings=SETTINGS, tokens=300, store=tmp_path / "store")
    assert (found["source"], own["source"]) == ("texts", "own samples")
    assert found["layers"]["1"]["width"] == 48
    assert found["key"] != own["key"]
    with pytest.raises(InputError, match="not both"):
        build(str(model), texts=[text], dataset="some/set", store=tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        build(str(model), texts=[tmp_path / "none.txt"], store=tmp_path)


def test_tracing_by_name_of_a_model(model: Path, data: Path, tmp_path: Path) -> None:
    page = tmp_path / "maps" / "trace.html"
    found = trace_model(str(model), prompts=data, facts=3, report=page)
    assert found["facts"] <= 3
    assert len(found["effects"]["mlp"][0]) == 3
    assert page.read_text().count("<svg") == 3
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        trace_model(str(model), prompts=data, facts=1, report=tmp_path / "file" / "trace.html")


def test_hard_edits_are_written_alone_and_together(
    model: Path, data: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    plan = hard.Plan(
        data, str(model), cases=3, methods=("rome",), sentences=8, text=text, statistics_text=text, settings=SETTINGS,
        controls=2,
    )  # fmt: skip
    found = hard.run(plan)
    assert (found["cases"], found["sentences"]) == (3, 8)
    [row] = found["rows"]
    assert sum(row["alone"]["verdicts"].values()) == row["alone"]["collapsed"]["n"] == 3
    assert row["together"]["edits"] == row["together"]["written"]["n"] == 3
    assert row["alone"]["worst"][0]["rise"] >= row["alone"]["median_rise"]
    assert (found["warned_of_nothing"]["value"], found["warned_of_nothing"]["n"]) == (0.0, 2)
    assert found["planted"]["rise"] > 0


def test_hard_edits_begin_with_a_subject_of_one_word(tmp_path: Path, data: Path) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[0] |= {"prompt": "The thing that Fenwick plays is the"}
    rows[1] |= {"prompt": "Ostrava Bay plays the", "subject": "Ostrava Bay"}
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [request.subject for request in hard.hard_requests(path, 3)] == ["Quillon", "Brask", "Tolma"]
    path.write_text(json.dumps(rows[0]))
    with pytest.raises(InputError, match="one word"):
        hard.hard_requests(path, 3)
