"""Damage, missing permissions, full disks: a typed error, and nothing lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from memedit.errors import (
    FingerprintMismatchError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from memedit.memory import EditMemory
from support import environment
from support.hashing_encoder import HashingEncoder

ENCODER = HashingEncoder()


def open_at(path: Path, **options: object) -> EditMemory:
    return EditMemory(path, encoder=ENCODER, **options)  # type: ignore[arg-type]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A closed memory of 300 edits with a saved index."""
    path = tmp_path / "edits.db"
    with open_at(path) as memory:
        memory.add_many([{"prompt": f"the colour of thing {i} is", "target": f"shade {i}"} for i in range(300)])
        memory.save_index()
    return path


def top(memory: EditMemory, text: str) -> str:
    return memory.candidates(memory.encoder.encode_tokens([text]))[0][0].edit.target


def read_and_write(path: Path) -> None:
    with open_at(path) as memory:
        memory.list()
        memory.add("x y z", "w")


def _deleted(path: Path) -> None:
    path.unlink()


def _moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def _replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))
    path.with_name("copy.db").rename(path)


def _folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def _log_deleted(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


@pytest.mark.parametrize("happens", [_deleted, _moved, _replaced, _folder_moved, _log_deleted])
def test_a_file_that_is_taken_away_takes_no_changes(tmp_path: Path, happens: Callable[[Path], None]) -> None:
    path = tmp_path / "folder" / "edits.db"
    path.parent.mkdir()
    with open_at(path) as memory:
        edit = memory.add("the colour of a is", "red")
        memory.check_store()
        happens(path)
        for change in (
            lambda: memory.add("x y z", "w"),
            lambda: memory.delete(edit.id),
            lambda: memory.keys.create("a", roles=["read"]),
            memory.check_store,
        ):
            with pytest.raises(StoreUnavailableError, match=r"edits\.db.*start this process again"):
                change()
        assert [found.id for found in memory.list()] == [edit.id], "what is known can still be read"
        assert happens in (_replaced, _log_deleted) or not path.exists(), "no empty file in its place"


def test_a_file_that_goes_during_a_commit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with open_at(path) as memory:
        with (
            pytest.raises(StoreUnavailableError, match="may be lost") as caught,
            memory._database.write() as connection,
        ):
            event.listen(connection, "commit", lambda _: path.unlink())
        assert caught.value.uncertain


@pytest.mark.parametrize("where", [0, 20_000])
def test_a_damaged_database_is_named_as_such(filled: Path, where: int) -> None:
    with filled.open("r+b") as file:
        file.seek(where)
        file.write(os.urandom(16_384))
    with pytest.raises(StoreCorruptError, match=r"edits\.db.*restore it from a copy"):
        read_and_write(filled)


def test_verify_finds_damage_that_reads_do_not_touch(filled: Path) -> None:
    with sqlite3.connect(filled) as connection:
        connection.execute("UPDATE edits SET target = 'changed behind the back' WHERE seq = 7")
        connection.execute("DELETE FROM vectors WHERE key >> 12 = 9")
        connection.execute("UPDATE vectors SET vector = x'00' WHERE key >> 12 = 11")
        connection.execute("UPDATE edits SET expired_at = 1 WHERE seq = 13")
    connection.close()
    with open_at(filled) as memory:
        report = memory.verify()
        assert not report.ok
        told = "\n".join(report.problems)
        for words in ("content hash does not fit", "lacks a vector", "wrong width", "not exactly one current version"):
            assert words in told
    shutil.rmtree(filled.with_name("edits.db.index"))
    with open_at(filled) as memory:
        with pytest.raises((StoreCorruptError, FingerprintMismatchError), match="rebuild"):
            memory.candidates(ENCODER.encode_tokens(["x"]))
        assert memory.rebuild() == 299
        assert top(memory, "the colour of thing 8 is") == "shade 8"


def test_files_that_are_something_else(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, but long enough to have a header" * 100)
    with pytest.raises(StoreCorruptError, match="not an edit memory"):
        open_at(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(StoreCorruptError, match="'bookmarks'"):
        open_at(other)
    assert other.read_bytes() == before
    with pytest.raises(StoreError, match="is a directory"):
        open_at(tmp_path)
    with pytest.raises(StoreError, match="does not exist; create it first"):
        open_at(tmp_path / "no" / "such" / "edits.db")


@pytest.mark.parametrize("damage", ["truncate", "flip", "manifest", "remove"])
def test_a_damaged_index_file_is_made_again_from_the_store(filled: Path, damage: str) -> None:
    folder = filled.with_name("edits.db.index")
    (payload,) = folder.glob("*.bin")
    (manifest,) = folder.glob("*.json")
    if damage == "truncate":
        payload.write_bytes(payload.read_bytes()[:100])
    elif damage == "flip":
        raw = bytearray(payload.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        payload.write_bytes(raw)
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        payload.unlink()
    with open_at(filled) as memory:
        assert top(memory, "the colour of thing 123 is") == "shade 123"
        assert memory.verify().ok == (damage == "nothing")
        memory.rebuild()
        assert memory.verify().ok


def test_an_index_of_another_store_is_not_taken_over(filled: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with open_at(other) as memory:
        memory.add_many([{"prompt": f"the weight of thing {i} is", "target": f"kilo {i}"} for i in range(300)])
    shutil.copytree(filled.with_name("edits.db.index"), tmp_path / "other.db.index")
    with open_at(other) as memory:
        assert top(memory, "the weight of thing 5 is") == "kilo 5"
        assert memory.verify().ok


def test_an_older_copy_of_the_database_beside_a_newer_index(filled: Path) -> None:
    copy = filled.read_bytes()
    with open_at(filled) as memory:
        memory.add("a new thing is", "new")
        memory.save_index()
    for suffix in ("-wal", "-shm"):
        filled.with_name(filled.name + suffix).unlink(missing_ok=True)
    filled.write_bytes(copy)
    with open_at(filled) as memory:
        assert memory.verify().ok
        assert top(memory, "a new thing is") != "new"
        memory.add("another thing is", "other")
        assert top(memory, "another thing is") == "other"


def test_another_encoder_is_refused_until_rebuilt(filled: Path) -> None:
    other = HashingEncoder(dimension=48)
    with EditMemory(filled, encoder=other) as memory:
        assert memory.count() == 300
        with pytest.raises(FingerprintMismatchError, match=r"300 of 300 texts .* rebuild\(\)"):
            memory.candidates(other.encode_tokens(["x"]))
        revision = memory.revision
        for change in (
            lambda: memory.add("x y z", "w"),
            lambda: memory.add_many([{"prompt": "x y z", "target": "w"}], vectors=other.encode(["x y z"])),
            lambda: memory.supersede(memory.list(limit=1)[0].id, target="w"),
            lambda: memory.update(memory.list(limit=1)[0].id, prompt="w x y"),
        ):
            with pytest.raises(FingerprintMismatchError, match=r"'hashing32' \(width 32\).*'hashing48'"):
                change()
        assert memory.revision == revision
        memory.add("x y z", "w", namespace="new ones may differ")
        assert memory.rebuild() == 300
        assert top(memory, "the colour of thing 7 is") == "shade 7"
        assert memory.verify().ok
    with open_at(filled) as memory, pytest.raises(FingerprintMismatchError):
        memory.candidates(ENCODER.encode_tokens(["x"]))


def test_read_only(filled: Path, tmp_path: Path) -> None:
    with open_at(filled, read_only=True) as memory:
        edit = memory.list(limit=1)[0]
        assert top(memory, "the colour of thing 7 is") == "shade 7"
        for change in (
            lambda: memory.add("x y z", "w"),
            lambda: memory.delete(edit.id),
            lambda: memory.set_setting("a", "b"),
            memory.vacuum,
        ):
            with pytest.raises(StoreReadOnlyError, match="read-only"):
                change()
    with pytest.raises(StoreError):
        open_at(tmp_path / "absent.db", read_only=True)
    assert not (tmp_path / "absent.db").exists()


READ_ONLY_FOLDER = """
import os, sys
from support.hashing_encoder import HashingEncoder
from sqlalchemy import event
from memedit.errors import StoreReadOnlyError
from memedit.memory import EditMemory
with EditMemory(":memory:", encoder=HashingEncoder()) as memory:  # import all there is: it may be unreadable later
    memory.add("x y z", "w")
    memory.candidates(memory.encoder.encode_tokens(["x"]))
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
with EditMemory({path!r}, encoder=HashingEncoder()) as memory:
    assert memory.count() == 300
    row = memory.candidates(memory.encoder.encode_tokens(["the colour of thing 7 is"]))[0]
    assert row[0].edit.target == "shade 7"
    try:
        memory.add("x y z", "w")
    except StoreReadOnlyError as error:
        print("refused:", error)
try:
    EditMemory({new!r})
except StoreReadOnlyError as error:
    print("not made:", error)
"""


def test_a_folder_without_write_permission_can_be_read_and_says_so_on_writes(filled: Path, tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    filled.chmod(0o444)
    filled.parent.chmod(0o555)
    try:
        code = READ_ONLY_FOLDER.format(path=str(filled), new=str(filled.parent / "new.db"))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
        )
    finally:
        filled.parent.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout
    assert "not made:" in done.stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_keeps_what_was_there_and_takes_up_again(small_disk: Path) -> None:
    path = small_disk / "edits.db"
    kept = []
    with open_at(path) as memory:
        with pytest.raises(StoreFullError, match="No space is left"):
            kept.extend(memory.add(f"prompt {i} is", "x" * 20_000).id for i in range(1_000))
        assert 10 < len(kept) < 1_000
        assert [edit.id for edit in memory.list()] == kept
        assert top(memory, "prompt 3 is")
        with pytest.raises(StoreFullError):
            memory.export(small_disk / "out.jsonl")
        assert not (small_disk / "out.jsonl").exists()
    with open_at(path) as memory:
        assert [edit.id for edit in memory.list()] == kept
        assert memory.verify().ok


def test_a_database_at_its_page_limit_is_full_too(tmp_path: Path) -> None:
    with open_at(tmp_path / "edits.db") as memory:
        first = memory.add("prompt is", "x")
        from sqlalchemy import event

        @event.listens_for(memory._database.engine, "begin")
        def limit(connection: object) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count = 60")  # type: ignore[attr-defined]

        revision = memory.revision
        with pytest.raises(StoreFullError):
            memory.add_many([{"prompt": f"prompt {i} is", "target": "x" * 5_000} for i in range(500)])
        assert memory.revision == revision
        assert [edit.id for edit in memory.list(state="all")] == [first.id]
        assert memory.verify().ok


def test_a_lock_held_too_long_is_named(filled: Path) -> None:
    holder = sqlite3.connect(filled, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with open_at(filled, timeout=0.2) as memory:
        assert memory.count() == 300, "readers do not wait"
        with pytest.raises(StoreBusyError, match="timeout"):
            memory.add("x y z", "w")
        holder.execute("ROLLBACK")
        memory.add("x y z", "w")
    holder.close()


def test_an_encoder_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    class Failing(HashingEncoder):
        def encode(self, texts, **options):  # type: ignore[no-untyped-def]
            raise RuntimeError("out of memory")

    with EditMemory(tmp_path / "edits.db", encoder=Failing()) as memory:
        with pytest.raises(RuntimeError, match="out of memory"):
            memory.add("x y z", "w")
        assert memory.revision == 0
        assert memory.list(state="all") == []
