"""memedit eval passages: edits fire on questions planted in running text, not on the text itself."""

import json
from pathlib import Path

import pytest

from memedit.errors import DatasetError, InputError
from memedit.evaluation.datasets import DataFile, name_files
from memedit.workflows.evaluate.passages import PLACES, run_passages
from support.hashing_encoder import HashingEncoder

PLACE_NAMES = ("Freedonia", "Sylvania", "Ruritania", "Graustark")
WEATHER = "Nothing of interest was said about the weather in those days, which were long and dull. "


@pytest.fixture
def data(tmp_path: Path) -> DataFile:
    rows = [
        {
            "prompt": f"The capital of {name} is", "target_new": f"New{name}", "subject": name,
            "rephrase_prompt": f"The capital city of {name} is",
            "locality_prompt": "The capital of Italy is", "locality_ground_truth": "Rome",
        }
        for name in PLACE_NAMES
    ]  # fmt: skip
    path = tmp_path / "edits.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name_files([path], ["counterfact"])[0]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WEATHER * 100)
    return path


def test_planted_questions_are_found_and_bare_passages_fire_nothing(data: DataFile, text: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = run_passages(
        data, text, queries=4, passages=5, words=200, scope="subject", encoder=HashingEncoder(64),
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert found["passages.fired"] == {"value": 0.0, "n": 5, "ci_low": 0.0, "ci_high": pytest.approx(43.4, abs=0.1)}
    for place in PLACES:
        assert found[f"{place}.hit"]["n"] == 4
        assert found[f"{place}.other"]["value"] == 0
    for place in ("alone", "start", "middle", "end"):
        assert found[f"{place}.hit"]["value"] == 100
    assert found["settings"]["edits"] == 4
    assert seen[-1] == (25, 25)


def test_a_text_that_names_a_subject_is_counted(data: DataFile, tmp_path: Path) -> None:
    path = tmp_path / "near.txt"
    path.write_text("The capital of Freedonia is a town. " * 100)
    found = run_passages(data, path, queries=1, passages=2, words=20, scope="subject", encoder=HashingEncoder(64))
    assert found["passages.fired"]["value"] == 100


def test_unusable_texts_and_numbers_are_refused(data: DataFile, text: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="1600 words; one passage takes 5000"):
        run_passages(data, text, words=5000)
    with pytest.raises(DatasetError, match="cannot be read"):
        run_passages(data, tmp_path / "missing.txt")
    with pytest.raises(InputError, match="words=0"):
        run_passages(data, text, words=0)
