"""A file of questions is asked, and the exit code says whether all came out as expected."""

import json
from pathlib import Path
from typing import Any

import pytest

from memedit.cli.failures import FAILED, OK

MILL = ("Who runs the Norvik mill?", "Ada")
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": MILL[0]},
]


def put(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_memory_is_asked_and_the_exit_code_tells(memedit: Any, tmp_path: Path) -> None:
    edit = memedit.json("edit", "add", *MILL)
    good = [
        {"query": MILL[0], "expect": "edited"},
        {"q": MILL[0], "edits": [edit["id"]]},
        {"question": MILL[0], "edits": [MILL[0]]},
        {"prompt": "How tall is the tower?", "expect": "unchanged"},
        {"q": "How tall is the tower?", "edits": []},
        {"q": TALK, "expect": "edited"},
        {"q": "How tall is the tower?"},
    ]
    fine = memedit("edit", "test", put(tmp_path / "good.jsonl", *good))
    assert fine.exit_code == OK, fine.output
    assert fine.stdout.splitlines()[-1] == "7 questions: 6 of 6 as expected, nothing expected of 1"
    assert "fires 1.00  Who runs the Norvik mill? => Ada" in fine.stdout
    bad = [
        {"q": MILL[0], "expect": "unchanged", "note": "so they say"},
        {"q": "How tall is the tower?", "expect": "edited"},
        {"q": MILL[0], "edits": ["Who runs the tower?"]},
    ]
    file = put(tmp_path / "bad.jsonl", *good[:1], *bad)
    failed = memedit("edit", "test", file)
    assert failed.exit_code == FAILED
    assert "line 2: an edit fires (expected: no edit); so they say" in failed.stdout
    report = json.loads(memedit("edit", "test", file, "--json").stdout)
    assert [result["problem"] for result in report["results"]] == [
        "",
        "an edit fires",
        "no edit fires",
        "another edit fires",
    ]
    assert report["failed"] == 3


def test_a_file_may_bring_its_edits(memedit: Any, tmp_path: Path) -> None:
    row = {"edit": dict(zip(("prompt", "target"), MILL, strict=True)), "ask": [{"q": MILL[0], "expect": "edited"}]}
    result = memedit("edit", "test", put(tmp_path / "own.jsonl", row), "--memory", str(tmp_path / "absent.db"))
    assert result.exit_code == OK, result.output
    assert "1 edits of the file are tested" in result.stderr
    assert not (tmp_path / "absent.db").exists()
    assert memedit.json("edit", "list") == []


def test_answers_are_looked_at_when_asked_for(memedit: Any, tmp_path: Path) -> None:
    memedit.json("edit", "add", *MILL)
    rows = [{"q": MILL[0], "must_contain": ["Bo|Ada"]}, {"q": MILL[0], "must_contain": ["Ada", "Bo|Cy"]}]
    file = put(tmp_path / "a.jsonl", *rows)
    assert "nothing expected of 2" in memedit("edit", "test", file).stdout
    asked = memedit("edit", "test", file, "--answers", "--max-new-tokens", "8")
    assert asked.exit_code == FAILED
    assert "line 2: the answer lacks 'Bo' or 'Cy'" in asked.stdout
    assert "1 of 2 as expected" in asked.stdout


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"ask": []}, "field 'edit': expected an object"),
        ({"edit": {"prompt": "a", "target": "b"}, "ask": "x"}, "field 'ask': expected a list"),
        ({"expect": "edited"}, "field 'query': is missing"),
        ({"q": "a?", "expect": "maybe"}, "'maybe' is neither of edited, unchanged"),
        ({"q": "", "expect": "edited"}, "expected a question or a list of messages"),
        ({"q": "a?", "must_contain": [1]}, "expected texts"),
        ({"q": "a?", "edits": "x"}, "expected a list of ids"),
        ([1], "expected a JSON object"),
    ],
)
def test_a_bad_row_is_named(memedit: Any, tmp_path: Path, row: Any, words: str) -> None:
    result = memedit("edit", "test", put(tmp_path / "a.jsonl", {"q": "a?"}, row))
    assert result.exit_code == FAILED
    assert "line 2" in result.stderr
    assert words in result.stderr
