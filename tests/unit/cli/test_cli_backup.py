"""``memedit backup`` and ``memedit restore``: what they print, their exit codes, and the page that shows how."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "backup.md"


def test_a_backup_and_what_is_made_of_it(memedit: Any, tmp_path: Path) -> None:
    memedit("edit", "add", "Who leads Norvik?", "Ada")
    made = memedit.json("backup", str(tmp_path / "a.backup"))
    assert (made["revision"], made["edits"], made["versions"]) == (1, {"default": 1}, [])
    assert made["bytes"] == (tmp_path / "a.backup").stat().st_size
    checked = memedit("restore", str(tmp_path / "a.backup"), "--dry-run", "-m", str(tmp_path / "no.db"))
    assert "is whole and holds 1 edit, 1 namespace, 0 versions, revision 1" in checked.stdout
    assert not (tmp_path / "no.db").exists()
    found = memedit.json("restore", str(tmp_path / "a.backup"), "-m", str(tmp_path / "b.db"))
    assert (found["memory"], found["revision"]) == (str(tmp_path / "b.db"), 1)
    assert [edit["target"] for edit in memedit.json("edit", "list", "-m", str(tmp_path / "b.db"))] == ["Ada"]


def test_what_cannot_be_done_is_told_in_one_line(memedit: Any, tmp_path: Path) -> None:
    memedit("backup", str(tmp_path / "a.backup"))
    for words, code, says in (
        (["backup", str(tmp_path / "a.backup")], 1, "overwrites nothing"),
        (["restore", str(tmp_path / "a.backup")], 1, "overwrites nothing"),
        (["restore", str(tmp_path / "absent")], 1, "exists"),
        (["restore", str(tmp_path / "absent"), "-m", str(tmp_path / "b.db")], 1, "there is no backup"),
        (["restore", str(tmp_path / "a.backup"), "-m", str(tmp_path / "b.db"), "--revision", "9"], 1, "holds 0 to 0"),
        (["backup", str(tmp_path / "c.backup"), "-m", str(tmp_path / "absent.db")], 2, "no edit memory"),
    ):
        result = memedit(*words)
        assert (result.exit_code, says in result.stderr) == (code, True), (words, result.stderr)
    (tmp_path / "a.backup").write_bytes(b"no zip")
    result = memedit("restore", str(tmp_path / "a.backup"), "--dry-run")
    assert result.exit_code == 1
    assert "is damaged" in result.stderr


def test_the_page_s_commands_do_what_it_says(memedit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backups").mkdir()
    memedit("edit", "add", "Who leads Norvik?", "Ada")
    memedit("edit", "add", "Who leads Sornby?", "Bo")
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 7
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "memedit"
        result = memedit(*words[1:])
        assert result.exit_code == 0, (line, result.output)
    counts = {name: len(memedit.json("edit", "list", "-m", f"{name}.db")) for name in ("restored", "before", "noon")}
    assert counts == {"restored": 2, "before": 1, "noon": 0}
    named = [path.name for path in (tmp_path / "backups").iterdir()]
    assert sum(bool(re.fullmatch(r"edits-\d{8}T\d{6}Z-r2\.backup", name)) for name in named) == 1
