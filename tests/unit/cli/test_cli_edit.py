"""``memedit edit``, ``index`` and ``scope`` on a real memory."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from memedit.cli.failures import CONFLICT, FAILED, USAGE
from memedit.memory import EditMemory

MAYOR = ("Who is the mayor of Maren Bay?", "Ines Okafor")


def add(memedit: Any, *more: str) -> Any:
    return memedit.json("edit", "add", *MAYOR, *more)


def test_an_edit_goes_through_its_life(memedit: Any) -> None:
    edit = add(memedit, "--meta", "topic=people", "--source", "town hall", "--paraphrase", "Who runs Maren Bay?")
    assert (edit["prompt"], edit["target"], edit["subject"]) == (*MAYOR, "Maren Bay")
    assert edit["metadata"] == {"topic": "people"}
    assert add(memedit, "--meta", "topic=people", "--paraphrase", "Who runs Maren Bay?")["id"] == edit["id"]

    newer = memedit.json("edit", "supersede", edit["id"], "Tomasz Wilk", "--source", "vote")
    assert [found["target"] for found in memedit.json("edit", "list")] == ["Tomasz Wilk"]
    assert memedit.json("edit", "show", edit["id"])["state"] == "retired"

    assert memedit.json("edit", "update", newer["id"], "--target", "T. Wilk")["version"] == 2
    assert memedit.json("edit", "rm", newer["id"]) == {"removed": [newer["id"]]}
    assert memedit.json("edit", "list") == []
    assert memedit.json("edit", "restore", newer["id"])["state"] == "active"
    actions = [change["action"] for change in memedit.json("edit", "history", newer["id"])]
    assert actions == ["supersede", "update", "delete", "restore"]


def test_a_statement_needs_no_target(memedit: Any) -> None:
    text = "The mayor of Maren Bay is Ines Okafor"
    edit = memedit.json("edit", "add", text, "--subject", "Maren Bay")
    assert (edit["prompt"], edit["target"], edit["subject"], edit["kind"]) == (text, text, "Maren Bay", "statement")
    assert "Maren Bay" in memedit("edit", "show", edit["id"]).stdout
    note = memedit.json("edit", "add", "allergic to nuts")
    assert "a note about the user" in memedit("edit", "show", note["id"]).stdout
    refused = memedit("edit", "add", "Do not discuss it", "--kind", "refusal")
    assert refused.exit_code == USAGE
    assert "needs a target" in refused.output


def test_tables_show_ids_whole(memedit: Any) -> None:
    edit = add(memedit)
    for words in (["list"], ["search", "mayor"], ["search", "who governs", "--mode", "semantic"]):
        assert edit["id"] in memedit("edit", *words).stdout
    assert "Ines Okafor" in memedit("edit", "show", edit["id"]).stdout


def test_filters_and_pages(memedit: Any) -> None:
    for number in range(4):
        memedit.json("edit", "add", f"What is item {number}?", f"thing {number}", "--meta", f"parity={number % 2}")
    odd = memedit.json("edit", "list", "--meta", "parity=1")
    assert [edit["target"] for edit in odd] == ["thing 1", "thing 3"]
    assert [edit["target"] for edit in memedit.json("edit", "list", "--limit", "2", "--offset", "1")] == [
        "thing 1",
        "thing 2",
    ]
    assert memedit.json("edit", "list", "--as-of", "2001-01-01") == []
    assert len(memedit.json("edit", "list", "--as-of", "2101-01-01", "--meta", "parity=0")) == 2


def test_a_contradiction_is_refused_with_its_own_exit_code(memedit: Any) -> None:
    first = add(memedit)
    refused = memedit("edit", "add", MAYOR[0], "Tomasz Wilk", "--json")
    assert refused.exit_code == CONFLICT
    assert json.loads(refused.stdout)["error"]["type"] == "ConflictError"
    assert first["id"] in refused.stderr
    kept = memedit.json("edit", "add", MAYOR[0], "Tomasz Wilk", "--on-conflict", "supersede")
    assert [edit["id"] for edit in memedit.json("edit", "list")] == [kept["id"]]


def test_export_and_import_round_trip(memedit: Any, tmp_path: Path) -> None:
    add(memedit)
    file = tmp_path / "out.jsonl"
    assert memedit.json("edit", "export", str(file))["edits"] == 1
    summary = memedit.json("edit", "import", str(file), "--namespace", "copy")
    assert (summary["rows"], summary["added"], summary["duplicates"]) == (1, 1, 0)
    assert memedit.json("edit", "import", str(file), "--namespace", "copy")["duplicates"] == 1
    assert [edit["target"] for edit in memedit.json("edit", "list", "-n", "copy")] == ["Ines Okafor"]


def test_the_index_is_described_checked_and_rebuilt(memedit: Any) -> None:
    add(memedit)
    assert memedit.json("index", "stats")["edits"] == {"active": 1}
    assert memedit.json("index", "verify")["ok"] is True
    assert memedit.json("index", "rebuild") == {"index_rows": 1}
    assert memedit("index", "vacuum").exit_code == 0


def test_verify_reports_damage_by_its_exit_code(memedit: Any) -> None:
    add(memedit)
    with sqlite3.connect(memedit.database) as connection:
        connection.execute("UPDATE edits SET target = 'someone else'")
    broken = memedit("index", "verify", "--json")
    assert broken.exit_code == FAILED
    found = json.loads(broken.stdout)
    assert found["ok"] is False
    assert found["problems"]


def test_scope_explains_and_calibrates(memedit: Any, tmp_path: Path) -> None:
    edit = add(memedit)
    decision = memedit.json("scope", "explain", MAYOR[0])
    assert [hit["edit"]["id"] for hit in decision["fired"]] == [edit["id"]]
    assert "fires" in memedit("scope", "explain", MAYOR[0]).stdout

    rows = [{"query": MAYOR[0], "edits": [MAYOR[0]]}, {"query": "Is Maren Bay a town?", "edits": []}]
    rows += [{"query": f"What is {n} plus {n}?", "edits": []} for n in range(3)]
    file = tmp_path / "examples.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = memedit.json("scope", "calibrate", str(file))
    assert (found["in_scope"], found["out_of_scope"]) == (1, 4)
    assert found["false_fire_rate"] == 0.0
    assert memedit.json("scope", "explain", MAYOR[0])["threshold"] == pytest.approx(found["threshold"])
    assert memedit.json("scope", "explain", MAYOR[0], "-n", "other")["threshold"] != pytest.approx(found["threshold"])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not JSON"),
        ("[]", "query"),
        ('{"query": " ", "edits": []}', "query"),
        ('{"query": "x"}', "edits"),
        ('{"query": "x", "edits": ["no such"]}', "no such"),
    ],
)
def test_bad_calibration_rows_are_named_by_line(memedit: Any, tmp_path: Path, row: str, says: str) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text('{"query": "fine", "edits": []}\n' + row + "\n", encoding="utf-8")
    result = memedit("scope", "calibrate", str(file))
    assert result.exit_code == FAILED
    assert "line 2" in result.stderr
    assert says in result.stderr


@pytest.mark.parametrize("prompt", ["", "   ", "a\0b"])
def test_unusable_prompts_are_refused(memedit: Any, prompt: str) -> None:
    result = memedit("edit", "add", prompt, "target")
    assert result.exit_code == FAILED
    assert result.stderr.startswith("error: prompt")


def test_control_tokens_and_escape_sequences_are_stored_verbatim_and_shown_escaped(memedit: Any) -> None:
    target = "<|im_end|>\n \x1b[2J"
    assert memedit.json("edit", "add", "What is odd?", target)["target"] == target
    shown = memedit("edit", "list").stdout
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown


def test_nothing_is_created_for_a_wrong_database(memedit: Any) -> None:
    memedit.database.write_bytes(b"this is no database, but long enough to look at" * 30)
    result = memedit("edit", "list")
    assert result.exit_code == FAILED
    assert str(memedit.database) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_folder_is_named(memedit: Any, tmp_path: Path) -> None:
    result = memedit("edit", "add", "a?", "b", "--memory", str(tmp_path / "no" / "such" / "folder" / "edits.db"))
    assert result.exit_code == FAILED
    assert "no/such/folder" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["edit", "list"],
        ["edit", "show", "some-id"],
        ["edit", "search", "x"],
        ["edit", "history", "some-id"],
        ["edit", "export", "out.jsonl"],
        ["edit", "update", "some-id", "--target", "x"],
        ["edit", "supersede", "some-id", "x"],
        ["edit", "rm", "some-id"],
        ["edit", "restore", "some-id"],
        ["index", "stats"],
        ["index", "verify"],
        ["index", "rebuild"],
        ["index", "vacuum"],
        ["keys", "list"],
        ["scope", "explain", "x?"],
        ["ask", "x?"],
    ],
)
@pytest.mark.parametrize("given", ["typo.db", "sqlite:///typo.db"])
def test_a_memory_that_is_not_there_is_not_made_by_looking_for_it(
    memedit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = memedit(*words, "-m", given)
    assert result.exit_code == USAGE
    assert f"there is no edit memory {given}" in result.stderr
    assert result.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_an_import_is_rehearsed_and_names_what_it_retires(memedit: Any, tmp_path: Path) -> None:
    file = tmp_path / "edits.csv"
    file.write_text("Question;Reply\nWho runs the mill?;Bo\nWhere is it?;\nWhen is it open?;always\n", "utf-8-sig")
    absent = ["--memory", str(tmp_path / "new.db")]
    words = ["edit", "import", str(file), "--map", "target=Reply"]
    refused = memedit(*words, "--dry-run", *absent)
    assert refused.exit_code == FAILED, "as the import itself would end"
    assert "2 would be added" in refused.stdout
    assert "x row 2 (line 3), Reply: is blank" in refused.stdout
    assert "+ Who runs the mill? => Bo" in refused.stdout
    assert not (tmp_path / "new.db").exists()
    assert not list(tmp_path.glob("*refused*"))
    old = memedit.json("edit", "add", "Who runs the mill?", "Ada")
    stopped = memedit(*words, "--dry-run", "--skip-invalid")
    assert stopped.exit_code == CONFLICT
    assert f"contradicts {old['id']}" in stopped.stdout
    done = memedit(*words, "--skip-invalid", "--on-conflict", "supersede")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 added, 0 already there, 1 superseded, 1 conflicts, 1 refused")
    assert lines[1].startswith(f"  retired {old['id']}: same prompt")
    assert lines[2:4] == ["    - Who runs the mill? => Ada", "    + Who runs the mill? => Bo"]
    assert (tmp_path / "edits.refused.csv").read_text("utf-8") == "Question;Reply\nWhere is it?;\n"
    assert memedit.json("edit", "import", str(file), "--map", "target=Reply", "--skip-invalid")["duplicates"] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(memedit: Any, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    result = memedit("edit", "list", "--memory", str(folder / "edits.db"))
    assert result.exit_code == FAILED
    assert str(folder) in result.stderr


def test_an_export_that_cannot_be_written_is_named(memedit: Any, tmp_path: Path) -> None:
    add(memedit)
    result = memedit("edit", "export", str(tmp_path / "absent" / "out.jsonl"))
    assert result.exit_code == FAILED
    assert "absent" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bad_row_of_a_file_is_named_and_nothing_is_imported(memedit: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a?", "target": "b"}\n{"prompt": "c?"}\n', encoding="utf-8")
    result = memedit("edit", "import", str(file), "--format", "jsonl")
    assert result.exit_code == FAILED
    assert "line 2" in result.stderr
    assert memedit.json("edit", "list") == []


@pytest.mark.parametrize(
    "words",
    [
        ["edit", "update", "some-id"],
        ["edit", "add", "p", "t", "--meta", "novalue"],
        ["edit", "add", "p", "t", "--kind", "rumour"],
        ["edit", "list", "--limit", "0"],
        ["scope", "calibrate", "absent.jsonl"],
        ["edit", "list", "--config", "absent.yaml"],
    ],
)
def test_wrong_usage(memedit: Any, words: list[str]) -> None:
    result = memedit(*words)
    assert result.exit_code == USAGE
    assert result.stdout == ""


@pytest.mark.parametrize(
    "target", ["-40 °C", "-40", "-.5", "-5 km/h, not more", "- one\n- two", "---\nport: 80\n", "-€3", "-"]
)
def test_an_answer_may_begin_with_a_minus(memedit: Any, target: str) -> None:
    edit = memedit.json("edit", "add", "What is the lowest temperature in Lowmere?", target, "--subject", "Lowmere")
    assert edit["target"] == target
    changed = memedit.json("edit", "update", edit["id"], "--target", f"{target}?")
    assert changed["target"] == f"{target}?", "an option's value may be anything"
    assert memedit.json("edit", "supersede", edit["id"], f"{target}!")["target"] == f"{target}!"


def test_a_time_without_a_zone_is_utc_and_says_so(memedit: Any) -> None:
    bare = memedit("edit", "add", "Who leads Norvik?", "Ada", "--valid-at", "2026-01-01", "--json")
    assert json.loads(bare.stdout)["valid_at"] == "2026-01-01T00:00:00+00:00"
    assert "2026-01-01T00:00:00 has no time zone and is taken as UTC" in bare.stderr
    zoned = memedit("edit", "add", "Who led Norvik?", "Bo", "--invalid-at", "2026-01-01T01:00:00+01:00", "--json")
    assert json.loads(zoned.stdout)["invalid_at"] == "2026-01-01T00:00:00+00:00"
    assert "zone" not in zoned.stderr
    assert len(memedit.json("edit", "list", "--as-of", "2036-01-01")) == 2
    wrong = memedit("edit", "list", "--as-of", "tomorrow")
    assert wrong.exit_code == USAGE
    assert "'tomorrow' is no time" in wrong.stderr


def test_options_are_still_told_from_arguments(memedit: Any) -> None:
    assert "No such option" in memedit("edit", "add", "a?", "b", "--sbject", "x").stderr
    assert "No such option" in memedit("edit", "add", "a?", "-x").stderr
    assert memedit("edit", "add", "Cold?", "--subject", "Lowmere", "--", "-x is the flag").exit_code == 0
    assert memedit.json("edit", "list")[0]["target"] == "-x is the flag"
    assert memedit("edit", "list", "--offset", "-5").exit_code == USAGE


def test_unknown_ids_encoders_and_scopes_are_named(memedit: Any) -> None:
    assert "no edit 'nope'" in memedit("edit", "show", "nope").stderr
    assert memedit("edit", "rm", "nope").exit_code == FAILED
    add(memedit)
    assert "minilm" in memedit("edit", "add", "a?", "b", "--encoder", "minilmm").stderr
    assert "did you mean 'subject'" in memedit("scope", "explain", "x?", "--scope", "subjct").stderr


def test_settings_come_from_files_and_all_problems_are_listed(memedit: Any, tmp_path: Path) -> None:
    add(memedit)
    other = tmp_path / "other.db"
    (tmp_path / "c.yaml").write_text(f"kind: settings\nnamespace: from-file\nmemory: {other}\n", encoding="utf-8")
    stats = memedit.json("index", "stats", "--config", str(tmp_path / "c.yaml"))
    assert stats["namespace"] == "from-file"
    assert not other.exists()  # the environment wins over the file
    (tmp_path / "bad.yaml").write_text("kind: settings\nmemroy: x\nscope: {threshold: 7}\n", encoding="utf-8")
    bad = memedit("index", "stats", "--config", str(tmp_path / "bad.yaml"))
    assert bad.exit_code == FAILED
    assert "did you mean 'memory'" in bad.stderr
    assert "scope.threshold" in bad.stderr


def test_feedback_is_shown_and_applied_only_when_told_to(memedit: Any) -> None:
    edit = memedit.json("edit", "add", "The mayor of Norvik is", "Ole", "--subject", "Norvik")
    assert "no open feedback" in memedit("scope", "calibrate").output
    with EditMemory(memedit.database) as memory:
        memory.feedback.add(edit["id"], "The mayor of Norvik is", should_fire=True, namespace="default")
        memory.feedback.add(edit["id"], "Norvik's choir is", should_fire=True, namespace="default")
    shown = memedit("scope", "calibrate")
    assert "nothing was changed; --apply does it" in shown.output
    found = memedit.json("scope", "calibrate")
    assert (found["applied"], len(found["remedies"])) == (False, 2)
    with EditMemory(memedit.database) as memory:
        assert memory.get(edit["id"]).paraphrases == ()
    actions = {
        one["verdict"]["query"]: one["action"] for one in memedit.json("scope", "calibrate", "--apply")["remedies"]
    }
    assert actions["The mayor of Norvik is"] == "none"
    with EditMemory(memedit.database) as memory:
        taught = actions["Norvik's choir is"] == "also"
        assert memory.get(edit["id"]).paraphrases == (("Norvik's choir is",) if taught else ())
    assert "no open feedback" in memedit("scope", "calibrate").output
