"""``memedit bench`` and ``memedit train``, as small as they go."""

from pathlib import Path
from typing import Any

import pytest

from memedit.cli.failures import FAILED


def test_ingest_prints_its_ratio_to_the_bare_encoder(memedit: Any) -> None:
    found = memedit.json("bench", "ingest", "--rows", "30", "--vector-rows", "30")
    assert found["of_bare"] > 0
    assert found["ingest_rows_per_s"] > 0


def test_figures_are_shown_for_people(memedit: Any) -> None:
    assert "of_bare" in memedit("bench", "ingest", "--rows", "10", "--vector-rows", "0").stdout


def test_overhead_runs_on_any_model(memedit: Any) -> None:
    found = memedit.json("bench", "overhead", "--edits", "5", "--batch-size", "2", "--new-tokens", "3", "--pairs", "1")
    assert found


def test_overhead_can_be_timed_on_rows_that_edits_answer(memedit: Any) -> None:
    sizes = ("--edits", "5", "--batch-size", "2", "--new-tokens", "3", "--pairs", "1")
    found = memedit.json("bench", "overhead", *sizes, "--in-scope")
    assert found["in_scope"] is True
    assert found["results"][0]["batch_size"] == 2
    assert found["results"][0]["cpu_ratio"] > 0


@pytest.mark.slow
def test_elder_learns_the_facts_whose_answers_are_timed(memedit: Any) -> None:
    sizes = ("--edits", "2", "--batch-size", "1", "--new-tokens", "2", "--pairs", "1")
    found = memedit.json("bench", "overhead", *sizes, "--in-scope", "--adapter", "elder")
    assert found["adapter"] == "elder"
    assert found["results"][0]["cpu_ratio"] > 0


def test_retrieval_reports_recall(memedit: Any) -> None:
    words = ["-n", "1000", "--kind", "flat", "--queries", "20", "--encoded", "200"]
    assert memedit.json("bench", "retrieval", *words)["recall"] == 1.0


def test_training_settings_and_files_are_checked(memedit: Any, tmp_path: Path) -> None:
    wrong = memedit("train", "reader", "x.jsonl", "--out", str(tmp_path / "r"), "--set", "stepps=1")
    assert wrong.exit_code == FAILED
    assert "did you mean 'steps'" in wrong.stderr
    absent = memedit("train", "reader", str(tmp_path / "absent.jsonl"), "--out", str(tmp_path / "r"))
    assert absent.exit_code == FAILED
    assert "absent.jsonl" in absent.stderr
    assert "Traceback" not in absent.stderr
