"""Backups of a memory in PostgreSQL, and a memory made there of a backup."""

import threading
from pathlib import Path

import pytest

from memedit.consolidation.versions import VersionStore
from memedit.errors import InputError, StoreCorruptError, StoreError
from memedit.memory import EditMemory
from memedit.workflows.backups import back_up, restore
from support.backed_up import ENCODER, SPACES, everything, held, lived_in


def test_a_memory_moves_to_a_server_and_back(url: str, tmp_path: Path) -> None:
    lived_in(tmp_path / "a.db", changes=40)
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    restore(tmp_path / "a.backup", url)
    wanted = everything(tmp_path / "a.db")
    assert everything(url) == wanted
    with EditMemory(url, encoder=ENCODER) as memory:
        assert all(memory.verify(namespace=space).problems == () for space in SPACES)
    back_up(url, tmp_path / "b.backup")
    restore(tmp_path / "b.backup", str(tmp_path / "b.db"))
    assert everything(tmp_path / "b.db") == wanted


def test_any_revision_of_a_server_can_be_gone_back_to(url: str, tmp_path: Path) -> None:
    states = lived_in(url, changes=15)
    back_up(url, tmp_path / "a.backup")
    for revision, wanted in list(states.items())[::3]:
        restore(tmp_path / "a.backup", str(tmp_path / f"{revision}.db"), revision=revision, encoder=ENCODER)
        with EditMemory(tmp_path / f"{revision}.db", encoder=ENCODER) as memory:
            assert held(memory) == wanted


def test_a_server_is_backed_up_at_one_moment_while_others_write(url: str, tmp_path: Path) -> None:
    stop = threading.Event()
    EditMemory(url, encoder=ENCODER).close()

    def write(writer: int) -> None:
        with EditMemory(url, encoder=ENCODER) as memory:
            number = 0
            while not stop.is_set():
                memory.add_many([{"prompt": f"{side} {writer}-{number}", "target": "x"} for side in ("left", "right")])
                number += 1

    threads = [threading.Thread(target=write, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    try:
        reports = [back_up(url, tmp_path / f"{i}.backup") for i in range(6)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert reports[-1].revision > reports[0].revision, "nobody wrote meanwhile"
    for number, report in enumerate(reports):
        restore(report.path, str(tmp_path / f"{number}.db"))
        with EditMemory(tmp_path / f"{number}.db", encoder=ENCODER) as memory:
            prompts = [edit.prompt for edit in memory.list()]
            assert report.revision == memory.revision == len(prompts)
            assert len([p for p in prompts if p.startswith("left")]) * 2 == len(prompts)
            assert memory.verify().problems == ()


def test_nothing_on_a_server_is_overwritten(url: str, tmp_path: Path) -> None:
    with EditMemory(url, encoder=ENCODER) as memory:
        memory.add("Who leads Norvik?", "Ada")
    back_up(url, tmp_path / "a.backup")
    before = everything(url)
    with pytest.raises(StoreError, match="overwrites nothing"):
        restore(tmp_path / "a.backup", url)
    assert everything(url) == before


def test_a_damaged_backup_leaves_the_server_empty(url: str, tmp_path: Path) -> None:
    lived_in(tmp_path / "a.db", changes=10)
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    data = bytearray((tmp_path / "a.backup").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.backup").write_bytes(data)
    with pytest.raises(StoreCorruptError):
        restore(tmp_path / "a.backup", url)
    assert not everything(url)["edits"]


def test_versions_of_a_server_s_memory_lie_in_the_folder_that_is_named(url: str, tmp_path: Path) -> None:
    EditMemory(url, encoder=ENCODER).close()

    def build(name: str, folder: Path) -> None:
        (folder / "weights").write_text(name)

    VersionStore(tmp_path / "versions" / "default").make(build)
    assert back_up(url, tmp_path / "without.backup").versions == ()
    assert back_up(url, tmp_path / "a.backup", versions=tmp_path / "versions").versions == ("default/v0001",)
    with pytest.raises(InputError, match="--versions"):
        restore(tmp_path / "a.backup", url)
    with pytest.raises(InputError, match="no folder"):
        back_up(url, tmp_path / "b.backup", versions=tmp_path / "absent")
