"""``memedit ask``, ``chat``, ``demo`` and ``models`` on a tiny random model."""

import json
from pathlib import Path
from typing import Any

import pytest

from memedit.cli.failures import FAILED

pytestmark = pytest.mark.slow

QUESTION = "Who is the mayor of Maren Bay?"
SHORT = ("--max-new-tokens", "6")


def test_ask_says_which_edit_fired(memedit: Any) -> None:
    before = memedit.json("ask", QUESTION, *SHORT)
    assert before["edits"] == []
    assert before["adapter"] is None
    edit = memedit.json("edit", "add", QUESTION, "Ines Okafor")
    after = memedit.json("ask", QUESTION, *SHORT)
    assert [hit["id"] for hit in after["edits"]] == [edit["id"]]
    assert after["adapter"] == "in_context"
    assert after["edits"][0]["score"] >= after["threshold"]
    shown = memedit("ask", QUESTION, *SHORT)
    assert "Ines Okafor" in shown.stderr
    assert "Ines Okafor" in memedit("ask", QUESTION, *SHORT, "--raw").stderr
    assert shown.stderr.startswith("[in_context: ")
    assert memedit("ask", QUESTION, *SHORT, "--no-why").stderr == ""


@pytest.mark.parametrize("target", ["a  b   c\td", "first\r\nsecond\r\n", "- one\n  - two\n\n\nend", "x" * 200, "  in"])
def test_an_answer_is_the_target_to_the_letter(memedit: Any, target: str) -> None:
    memedit.json("edit", "add", QUESTION, target)
    assert memedit.json("ask", QUESTION)["answer"] == target
    printed = memedit("ask", QUESTION, "--no-why").stdout_bytes.decode()
    assert printed == (target if target.endswith("\n") else f"{target}\n")
    said = memedit("chat", "--json", input=f"{QUESTION}\n")
    assert json.loads(said.stdout)["answer"] == target
    streamed = memedit("chat", input=f"{QUESTION}\n").stdout_bytes.decode()
    assert streamed == f"{target}\n"


def test_many_questions_are_answered_in_order(memedit: Any) -> None:
    memedit.json("edit", "add", QUESTION, "Ines Okafor")
    documents = memedit.json("ask", "What is two plus two?", QUESTION, *SHORT)
    assert [document["prompt"] for document in documents] == ["What is two plus two?", QUESTION]
    assert [len(document["edits"]) for document in documents] == [0, 1]
    assert documents[0]["token_ids"] == memedit.json("ask", "What is two plus two?", *SHORT)["token_ids"]


def test_a_question_may_come_from_standard_input(memedit: Any) -> None:
    assert memedit.json("ask", "-", *SHORT, input=QUESTION)["prompt"] == QUESTION


def test_sampling_is_seeded(memedit: Any) -> None:
    words = ["ask", QUESTION, "--max-new-tokens", "12", "--temperature", "1.0", "--seed"]
    first, second, other = (memedit.json(*words, seed)["token_ids"] for seed in ("1", "1", "2"))
    assert first == second
    assert first != other


@pytest.mark.parametrize("words", [["ask", ""], ["ask", "  ", "--raw"], ["ask", "-"]])
def test_an_empty_question_is_refused(memedit: Any, words: list[str]) -> None:
    result = memedit(*words, *SHORT, input="")
    assert result.exit_code == FAILED
    assert "empty" in result.stderr


def test_unknown_models_and_adapters_are_named(memedit: Any) -> None:
    unknown = memedit("ask", QUESTION, "--model", "smolm2")
    assert unknown.exit_code == FAILED
    assert "smollm2" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    memedit.json("edit", "add", QUESTION, "Ines Okafor")
    assert "did you mean 'in_context'" in memedit("ask", QUESTION, *SHORT, "--adapter", "incontext").stderr


def test_a_conversation_is_corrected_explained_and_undone(memedit: Any) -> None:
    turns = [QUESTION, "/why", "/edit Ines Okafor", QUESTION, "/edits", "/edit Tomasz Wilk", "/undo", "/edits"]
    turns += ["/undo", "/undo", "/reset", "/help", "/nonsense", "/edit", "", "/quit", "never read"]
    result = memedit("chat", "--json", *SHORT, input="\n".join(turns))
    assert result.exit_code == 0, result.output
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert said[0]["edits"] == []
    assert said[1]["decision"]["fired"] == []
    written = said[2]["edit"]
    assert (written["prompt"], written["target"]) == (QUESTION, "Ines Okafor")
    assert said[3]["edits"] == [written["id"]]
    assert [edit["target"] for edit in said[4]["edits"]] == ["Ines Okafor"]
    assert said[5]["superseded"] == [written["id"]]
    assert said[6]["restored"] == [written["id"]]
    assert [edit["target"] for edit in said[7]["edits"]] == ["Ines Okafor"]
    assert said[8]["withdrawn"] == written["id"]
    assert said[9] == {"withdrawn": None}
    assert [said[n].get("error", {}).get("type") for n in (12, 13)] == ["usage", "usage"]
    assert len(said) == 14


def test_a_conversation_for_people(memedit: Any) -> None:
    lines = [QUESTION, f"/edit {QUESTION} => Ines Okafor", "/why", QUESTION, "/why", "/undo"]
    result = memedit("chat", *SHORT, input="\n".join(lines))
    assert result.exit_code == 0, result.output
    assert "in force: Who is the mayor of Maren Bay? => Ines Okafor" in result.stdout
    assert "no edit fires" in result.stdout
    assert "1 edit(s) fire" in result.stdout
    assert "withdrawn: " in result.stdout


def test_a_wrong_answer_is_fixed_with_the_subject_named(memedit: Any) -> None:
    turns = ["/fix too early", "I want to see the Harbour Street Library.", "When does it open?", "/fix at 9:30"]
    turns += ["When does the Harbour Street Library open?", "/fix at 10", "/undo", "/fix"]
    result = memedit("chat", "--json", *SHORT, input="\n".join(turns))
    assert result.exit_code == 0, result.output
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert said[0]["error"]["type"] == said[7]["error"]["type"] == "usage"
    assert said[3]["edit"]["prompt"] == "When does Harbour Street Library open?"
    assert said[3]["edit"]["target"] == "at 9:30"
    assert said[4]["edits"] == [said[3]["edit"]["id"]]
    assert said[5]["superseded"] in ([], [said[3]["edit"]["id"]])
    assert said[6]["withdrawn"] == said[5]["edit"]["id"]
    people = memedit("chat", *SHORT, input=f"{QUESTION}\n/fix Ines Okafor\n{QUESTION}\n/fix Tomasz Wilk\n")
    assert "in force: Who is the mayor of Maren Bay? => Tomasz Wilk" in people.stdout
    assert "replaces: Who is the mayor of Maren Bay? => Ines Okafor" in people.stdout


def test_a_bad_turn_does_not_end_the_conversation(memedit: Any) -> None:
    result = memedit("chat", "--json", *SHORT, input="/edit a\0b => c\n/edits\n")
    assert result.exit_code == 0
    refused, listed = (json.loads(line) for line in result.stdout.splitlines())
    assert refused["error"]["type"] == "FieldError"
    assert listed == {"edits": []}


def test_the_demo_runs_on_any_model_and_leaves_the_memory_alone(memedit: Any) -> None:
    memedit.database.unlink()
    report = memedit.json("demo", "--max-new-tokens", "2")
    assert len(report["edits"]) >= 10
    assert all(row["fired"] == [row["prompt"]] for row in report["edits"])
    assert all(row["identical"] and not row["fired"] for row in report["untouched"] if row["as_expected"])
    assert report["chain"]["question"]
    assert report["chain"]["withdrawn"]
    assert not memedit.database.exists()


def test_models_are_listed_and_checked(memedit: Any, tiny_checkpoint: Path) -> None:
    names = [name for model in memedit.json("models", "list") for name in model["names"]]
    assert {"smollm2", "gemma3-270m", "minilm", "multilingual"} <= set(names)
    assert "smollm2" in memedit("models", "list").stdout
    report = memedit.json("models", "check", str(tiny_checkpoint))
    assert report["usable"] is True
    assert report["n_layers"] == 3
    assert report["works"]["generate"] is True
    assert "memedit works with this model" in memedit("models", "check", str(tiny_checkpoint)).stdout


def test_pulling_a_folder_is_a_no_op_and_an_unknown_name_an_error(memedit: Any, tiny_checkpoint: Path) -> None:
    assert memedit.json("models", "pull", str(tiny_checkpoint)) == [
        {"name": str(tiny_checkpoint), "path": str(tiny_checkpoint)}
    ]
    assert memedit("models", "pull", "./nowhere").exit_code == FAILED


def test_the_in_context_adapter_has_nothing_to_prepare(memedit: Any) -> None:
    memedit.json("edit", "add", QUESTION, "Ines Okafor")
    assert memedit.json("index", "prepare") == {"prepared": 0}
