"""``memedit edit conflicts``, ``settle``, ``block``, ``also`` and what imports say of doubts, on a real memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memedit.cli.failures import FAILED, USAGE
from memedit.memory import conflicts

LEADS = ("Who leads Norvik?", "Ole")
RUNS = ("Who runs Norvik?", "Ada")
ALSO_LEADS = ("Who leads Norvik these days?", "Ida")


class Scorer:
    """Prompts with the same verb ask the same, with two verbs perhaps."""

    threshold, doubt = 0.9, 0.5

    def scores(self, pairs, encoder):
        return np.array([1.0 if a.prompt.split()[1] == b.prompt.split()[1] else 0.6 for a, b in pairs], np.float32)


@pytest.fixture
def judged(memedit: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(conflicts, "default_scorer", lambda encoder: Scorer())
    return memedit


def add(memedit: Any, prompt: str, target: str, *more: str) -> Any:
    return memedit("edit", "add", prompt, target, "--subject", "Norvik", *more)


def test_a_doubtful_pair_is_noted_listed_and_settled(judged: Any) -> None:
    older = json.loads(add(judged, *LEADS, "--json").stdout)
    assert judged.json("edit", "conflicts") == []
    assert "no possible conflicts" in judged("edit", "conflicts").stdout
    noted = add(judged, *RUNS, "--json")
    newer = json.loads(noted.stdout)
    assert f"perhaps the same question as {older['id']} (score 0.60)" in noted.stderr
    (pair,) = judged.json("edit", "conflicts")
    assert (pair["older"]["id"], pair["newer"]["id"], round(pair["score"], 2)) == (older["id"], newer["id"], 0.6)
    shown = judged("edit", "conflicts", newer["id"]).stdout
    for text in (older["id"], newer["id"], *LEADS, *RUNS, "0.60", "memedit edit settle"):
        assert text in shown
    assert judged("edit", "settle", older["id"], newer["id"]).exit_code == USAGE
    said = judged("edit", "settle", newer["id"], older["id"], "--same").stdout
    assert f"withdrawn: {older['id']}" in said
    assert newer["id"] in said
    assert [edit["id"] for edit in judged.json("edit", "list")] == [newer["id"]]
    assert judged("edit", "settle", newer["id"], older["id"], "--same").exit_code == FAILED


def test_told_apart_both_stay(judged: Any) -> None:
    one, other = (json.loads(add(judged, *edit, "--json").stdout)["id"] for edit in (LEADS, RUNS))
    assert "told apart" in judged("edit", "settle", one, other, "--different").stdout
    assert judged.json("edit", "conflicts") == []
    assert {edit["id"]: edit["blocks"] for edit in judged.json("edit", "list")} == {one: [RUNS[0]], other: [LEADS[0]]}


def test_teaching_by_hand(memedit: Any) -> None:
    edit = json.loads(add(memedit, *LEADS, "--block", "Who led Norvik?", "--json").stdout)
    assert edit["blocks"] == ["Who led Norvik?"]
    assert "Who led Norvik?" in memedit("edit", "show", edit["id"]).stdout
    assert memedit.json("edit", "also", edit["id"], "Norvik's boss?")["paraphrases"] == ["Norvik's boss?"]
    taught = memedit.json("edit", "block", edit["id"], "Norvik's boss?")
    assert (taught["paraphrases"], taught["blocks"]) == ([], ["Who led Norvik?", "Norvik's boss?"])
    assert memedit.json("edit", "block", edit["id"], "who led norvik", "--remove")["blocks"] == ["Norvik's boss?"]
    refused = memedit("edit", "block", edit["id"], LEADS[0])
    assert (refused.exit_code, "own prompt" in refused.stderr) == (FAILED, True)


def rows(path: Path, *edits: tuple[str, str]) -> Path:
    lines = [json.dumps({"prompt": prompt, "target": target, "subject": "Norvik"}) for prompt, target in edits]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_import_names_what_is_in_doubt(judged: Any, tmp_path: Path, dry_run: bool) -> None:
    old = json.loads(add(judged, *LEADS, "--json").stdout)
    file = rows(tmp_path / "a.jsonl", ALSO_LEADS, RUNS)
    words = ["edit", "import", str(file), "--on-conflict", "supersede", *(["--dry-run"] if dry_run else [])]
    copy = judged.json(*words, "--namespace", "copy")
    assert [pair["new_target"] for pair in copy["doubtful"]] == ["Ada"]
    shown = judged(*words).stdout
    assert "1 conflicts, 1 doubtful" in shown
    assert ("both would be in force" in shown, "both are in force" in shown) == (dry_run, not dry_run)
    assert ("memedit edit settle" in shown) is not dry_run
    assert f"{'would retire' if dry_run else 'retired'} {old['id']}" in shown
    for text in (*LEADS, *ALSO_LEADS, *RUNS, "perhaps the same question", "0.60"):
        assert text in shown
    assert len(judged.json("edit", "conflicts")) == (0 if dry_run else 1)
