"""Backups and what is made of them: all of it, at any revision, from a memory in use; or a clear error and nothing."""

import json
import random
import shutil
import sqlite3
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memedit.consolidation.records import SolvedEdit, write_record
from memedit.consolidation.versions import VersionStore
from memedit.errors import InputError, MemoryNotFoundError, StoreCorruptError, StoreError, StoreVersionError
from memedit.memory import EditMemory
from memedit.memory.backup import loading
from memedit.types import EditState
from memedit.workflows.backups import back_up, inspect_backup, restore
from memedit.workflows.consolidate.versions import default_versions
from support.backed_up import ENCODER, SPACES, everything, held, lived_in
from support.hashing_encoder import HashingEncoder
from support.version_files import build, made_up_record

pytestmark = pytest.mark.slow

OLD_FILE = Path(__file__).parents[1] / "memory" / "data" / "version1.sql"


def opened(path: Path) -> EditMemory:
    return EditMemory(path, encoder=ENCODER)


def test_everything_comes_back(tmp_path: Path) -> None:
    lived_in(tmp_path / "a.db")
    with opened(tmp_path / "a.db") as memory:
        memory.keys.create("alice", roles=["admin"])
        memory.set_setting("scope.threshold", "0.5")
        memory.acquire_lease("consolidation", "someone", 60)
        revision = memory.revision
    report = back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    assert (report.revision, report.oldest_revision, report.problems) == (revision, 0, ())
    found = restore(tmp_path / "a.backup", str(tmp_path / "b.db"))
    assert (found.revision, found.encoded, found.memory) == (revision, 0, str(tmp_path / "b.db"))
    assert everything(tmp_path / "b.db") == everything(tmp_path / "a.db")
    with opened(tmp_path / "b.db") as memory:
        assert all(memory.verify(namespace=space).problems == () for space in SPACES)
        assert memory.lease("consolidation") is None, "nobody works on the new memory"
        memory.add("Is it alive?", "Yes.")
        assert memory.revision == revision + 1
    with sqlite3.connect(tmp_path / "b.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing is left lying about"


def test_a_backup_is_readable_by_its_owner_only_and_names_itself_in_a_folder(tmp_path: Path) -> None:
    opened(tmp_path / "a.db").close()
    report = back_up(str(tmp_path / "a.db"), tmp_path)
    path = Path(report.path)
    assert path.parent == tmp_path
    assert path.name == f"a-{report.made_at:%Y%m%dT%H%M%SZ}-r0.backup"
    assert path.stat().st_mode & 0o077 == 0
    restore(path, str(tmp_path / "b.db"))
    assert (tmp_path / "b.db").stat().st_mode & 0o077 == 0


def test_backups_made_while_others_write_are_each_of_one_moment(tmp_path: Path) -> None:
    """Every change adds two edits in one transaction: a backup never has one without the other."""
    path, stop = tmp_path / "a.db", threading.Event()
    opened(path).close()

    def write(writer: int) -> None:
        with opened(path) as memory:
            number = 0
            while not stop.is_set():
                pair = [{"prompt": f"{side} {writer}-{number}", "target": "x"} for side in ("left", "right")]
                memory.add_many(pair)
                number += 1

    threads = [threading.Thread(target=write, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    try:
        reports = [back_up(str(path), tmp_path / f"{i}.backup") for i in range(12)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert reports[-1].revision > reports[0].revision, "nobody wrote meanwhile"
    for number, report in enumerate(reports):
        restore(report.path, str(tmp_path / f"{number}.db"))
        with opened(tmp_path / f"{number}.db") as memory:
            prompts = {edit.prompt for edit in memory.list()}
            assert memory.revision == report.revision == len(prompts)
            assert {f"left {p.removeprefix('right ')}" for p in prompts if p.startswith("right")} == {
                p for p in prompts if p.startswith("left")
            }
            assert memory.verify().problems == ()


@pytest.mark.parametrize("seed", range(3))
def test_any_revision_can_be_gone_back_to(tmp_path: Path, seed: int) -> None:
    states = lived_in(tmp_path / "a.db", changes=40, seed=seed)
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    for revision, wanted in states.items():
        target = tmp_path / f"{revision}.db"
        found = restore(tmp_path / "a.backup", str(target), revision=revision, encoder=ENCODER)
        assert found.revision == revision
        with opened(target) as memory:
            assert held(memory) == wanted
            assert memory.revision >= revision
            assert memory.revision == revision or found.encoded, "only texts that are other ones again are written"
            for space in SPACES:
                assert memory.verify(namespace=space).problems == ()
            history = [edit.version for space in SPACES for edit in wanted[space]]
            assert len(memory.audit(limit=1000)) >= len(history)
            memory.add("What is written after going back?", "This.")


def test_a_time_can_be_gone_back_to(tmp_path: Path) -> None:
    states = lived_in(tmp_path / "a.db", changes=20)
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    with opened(tmp_path / "a.db") as memory:
        log = list(reversed(memory.audit(limit=1000)))
    tenth = log[len(log) // 2]
    between = tenth.at + timedelta(microseconds=1)
    last = max(entry.revision for entry in log if entry.at <= between)
    found = inspect_backup(tmp_path / "a.backup", at=between)
    assert found.revision == last
    assert sum(found.edits.values()) == sum(
        edit.state is not EditState.RETIRED for edits in states[last].values() for edit in edits
    )
    assert inspect_backup(tmp_path / "a.backup", at=datetime(2001, 1, 1, tzinfo=UTC)).revision == 0
    with pytest.raises(InputError, match="time zone"):
        inspect_backup(tmp_path / "a.backup", at=datetime(2001, 1, 1))
    with pytest.raises(InputError, match="not both"):
        inspect_backup(tmp_path / "a.backup", at=between, revision=1)


def test_artefacts_of_texts_that_are_gone_do_not_come_back_with_the_old_texts(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as memory:
        changed, same = memory.add("Who leads Norvik?", "Ada"), memory.add("Who leads Sornby?", "Bo")
        revision = memory.revision
        memory.update(changed.id, target="Eva")
        memory.put_artefacts("soft", "f", {changed.id: b"of Eva", same.id: b"of Bo"})
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    restore(tmp_path / "a.backup", str(tmp_path / "b.db"), revision=revision)
    with opened(tmp_path / "b.db") as memory:
        assert memory.get_artefacts("soft", "f", [changed.id, same.id]) == {same.id: b"of Bo"}


def test_a_revoked_key_opens_nothing_whatever_is_gone_back_to(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as memory:
        key, secret = memory.keys.create("alice", roles=["admin"])
        memory.add("Who leads Norvik?", "Ada")
        revision = memory.revision
        memory.keys.revoke(key.id)
        memory.set_setting("scope.threshold", "0.9")
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    found = restore(tmp_path / "a.backup", str(tmp_path / "b.db"), revision=revision)
    assert found.settings == (("default", "scope.threshold"),)
    with opened(tmp_path / "b.db") as memory:
        assert memory.revision == revision
        held_key = memory.keys.find(secret)
        assert held_key is None or not held_key.usable(datetime.now(UTC))


def test_what_was_forgotten_cannot_be_gone_back_to(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as memory:
        edit = memory.add("Who leads Norvik?", "Ada")
        memory.update(edit.id, target="Eva")
        memory.vacuum(forget_before=datetime.now(UTC))
        forgotten = memory.revision
        memory.update(edit.id, target="Ida")
    report = back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    assert report.oldest_revision == forgotten
    for revision in (forgotten - 1, report.revision + 1):
        with pytest.raises(InputError, match=f"holds {forgotten} to {report.revision}"):
            restore(tmp_path / "a.backup", str(tmp_path / "b.db"), revision=revision)
    assert not (tmp_path / "b.db").exists()
    restore(tmp_path / "a.backup", str(tmp_path / "b.db"), revision=forgotten)
    with opened(tmp_path / "b.db") as memory:
        assert memory.get(edit.id).target == "Eva"


def versioned(path: Path, counts: int = 2) -> VersionStore:
    """A memory with versions that say they hold its edits."""
    with opened(path) as memory:
        store = VersionStore(default_versions(str(path), "default"))
        for number in range(counts):
            edit = memory.add(f"Who leads place {number}?", "Ada")

            def fill(name: str, folder: Path, edit: object = edit) -> None:
                build(name, folder)
                solved = (SolvedEdit(edit.id, edit.content_hash, True),)  # type: ignore[attr-defined]
                write_record(folder, made_up_record(name, solved))

            store.promote(store.make(fill))
            memory.set_states([edit.id], "consolidated", link=store.aliases().champion)
    return store


def test_consolidated_versions_come_back_with_their_ledger(tmp_path: Path) -> None:
    store = versioned(tmp_path / "a.db")
    report = back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    assert report.versions == ("default/v0001", "default/v0002")
    found = restore(tmp_path / "a.backup", str(tmp_path / "b.db"))
    assert (found.versions, found.problems) == (report.versions, ())
    new = VersionStore(default_versions(str(tmp_path / "b.db"), "default"))
    assert new.entries() == store.entries()
    assert new.problems() == []
    assert (new.root / "champion").resolve().name == "v0002"
    for name in store.names():
        for path in (store.root / name).iterdir():
            assert (new.root / name / path.name).read_bytes() == path.read_bytes()
    restore(tmp_path / "a.backup", str(tmp_path / "c.db"), with_versions=False)
    assert not (tmp_path / "c.db.versions").exists()


def test_versions_go_back_with_the_edits(tmp_path: Path) -> None:
    versioned(tmp_path / "a.db")
    with opened(tmp_path / "a.db") as memory:
        log = list(reversed(memory.audit(limit=100)))
    first_consolidated = next(entry.revision for entry in log if entry.action == "state")
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    restore(tmp_path / "a.backup", str(tmp_path / "b.db"), revision=first_consolidated)
    store = VersionStore(default_versions(str(tmp_path / "b.db"), "default"))
    assert (store.names(), store.aliases().champion) == (["v0001"], "v0001")
    with opened(tmp_path / "b.db") as memory:
        assert [edit.state.value for edit in memory.list()] == ["consolidated"]
    restore(tmp_path / "a.backup", str(tmp_path / "c.db"), revision=0)
    assert VersionStore(default_versions(str(tmp_path / "c.db"), "default")).names() == []


def test_a_damaged_version_is_backed_up_and_told_of(tmp_path: Path) -> None:
    store = versioned(tmp_path / "a.db")
    (store.root / "v0001" / "part0.bin").write_bytes(b"other")
    report = back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    assert "v0001: part0.bin has changed" in report.problems[0]
    assert "v0001" in restore(tmp_path / "a.backup", str(tmp_path / "b.db")).problems[0]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    versioned(tmp_path / "a.db")
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    before = (tmp_path / "a.backup").read_bytes()
    with pytest.raises(StoreError, match="overwrites nothing"):
        back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    assert (tmp_path / "a.backup").read_bytes() == before
    memory = (tmp_path / "a.db").read_bytes()
    with pytest.raises(StoreError, match="overwrites nothing"):
        restore(tmp_path / "a.backup", str(tmp_path / "a.db"))
    assert (tmp_path / "a.db").read_bytes() == memory
    (tmp_path / "b.db.versions" / "default").mkdir(parents=True)
    with pytest.raises(StoreError, match="not empty"):
        restore(tmp_path / "a.backup", str(tmp_path / "b.db"))
    assert not (tmp_path / "b.db").exists()


def test_the_caches_of_a_memory_that_was_there_before_are_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    for name, target in (("a", "Ada"), ("b", "Bo")):
        with opened(tmp_path / f"{name}.db") as memory:
            memory.add(f"Who leads {target}ville?", target)
            memory.save_index()
    back_up(str(tmp_path / "a.db"), tmp_path / "a.backup")
    (tmp_path / "b.db").unlink()
    restore(tmp_path / "a.backup", str(tmp_path / "b.db"))
    with opened(tmp_path / "b.db") as memory:
        assert [edit.target for edit, _ in memory.search("Who leads Adaville?", mode="semantic")] == ["Ada"]
        assert memory.verify().problems == ()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    versioned(folder / "a.db")
    back_up(str(folder / "a.db"), folder / "a.backup")
    return folder / "a.backup"


def refused(backup: Path, target: Path) -> bool:
    """Restore; whether it was refused as damaged, leaving nothing."""
    told = ""
    try:
        restore(backup, str(target))
    except StoreCorruptError as error:
        told = str(error)
    if told:
        assert "damaged" in told
        assert list(target.parent.iterdir()) == [], "what fails leaves nothing"
    return bool(told)


@pytest.mark.parametrize("seed", range(60))
def test_a_changed_byte_is_noticed_or_changes_nothing(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(whole.read_bytes())
    position = rng.randrange(len(data))
    data[position] ^= 1 << rng.randrange(8)
    (tmp_path / "a.backup").write_bytes(data)
    (tmp_path / "new").mkdir()
    if not refused(tmp_path / "a.backup", tmp_path / "new" / "b.db"):  # a byte that nothing reads, such as a date
        restore(whole, str(tmp_path / "b.db"))
        assert everything(tmp_path / "new" / "b.db") == everything(tmp_path / "b.db")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_backup_is_refused(whole: Path, tmp_path: Path, share: float) -> None:
    data = whole.read_bytes()
    (tmp_path / "a.backup").write_bytes(data[: int(share * len(data))])
    (tmp_path / "new").mkdir()
    assert refused(tmp_path / "a.backup", tmp_path / "new" / "b.db")


def remade(whole: Path, target: Path, change: Callable[[str, bytes], dict[str, bytes]]) -> None:
    """Write a backup again with some files changed; the manifest is as it was unless it is changed too."""
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for changed, data in change(name, old.read(name)).items():
                new.writestr(changed, data)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "versions/../../evil", "versions", "other/evil", "versions//evil"]
)
def test_no_name_leads_out_of_the_folder(whole: Path, tmp_path: Path, name: str) -> None:
    def change(old: str, data: bytes) -> dict[str, bytes]:
        if old != "memedit-backup.json":
            return {old: data}
        manifest = json.loads(data)
        manifest["files"][name] = {"bytes": 1, "sha256": "0"}
        return {old: json.dumps(manifest).encode(), name: b"x"}

    remade(whole, tmp_path / "a.backup", change)
    (tmp_path / "new").mkdir()
    assert refused(tmp_path / "a.backup", tmp_path / "new" / "b.db")


def test_what_is_no_backup_or_of_a_newer_memedit_is_told(whole: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("hello.txt", "hello")
    with pytest.raises(StoreCorruptError, match="no backup of memedit's"):
        restore(tmp_path / "other.zip", str(tmp_path / "b.db"))
    newer = {"memedit-backup.json": lambda data: data.replace(b'"format_version": 1', b'"format_version": 2')}
    remade(whole, tmp_path / "newer.backup", lambda name, data: {name: newer.get(name, lambda d: d)(data)})
    with pytest.raises(StoreVersionError, match="newer memedit"):
        restore(tmp_path / "newer.backup", str(tmp_path / "b.db"))
    with pytest.raises(InputError, match="there is no backup"):
        restore(tmp_path / "absent.backup", str(tmp_path / "b.db"))
    with pytest.raises(MemoryNotFoundError):
        back_up(str(tmp_path / "absent.db"), tmp_path / "c.backup")
    with pytest.raises(InputError, match=":memory:"):
        back_up(":memory:", tmp_path / "c.backup")
    with pytest.raises(InputError, match="no folder"):
        back_up(str(whole.parent / "a.db"), tmp_path / "nowhere" / "c.backup")
    assert not (tmp_path / "b.db").exists()


def test_a_memory_of_an_older_schema_is_backed_up_as_it_is_and_restored_as_a_new_one(tmp_path: Path) -> None:
    """So that one can go back to an older memedit when an upgrade disappoints."""
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript(OLD_FILE.read_text(encoding="utf-8"))
    before = (tmp_path / "old.db").read_bytes()
    back_up(str(tmp_path / "old.db"), tmp_path / "old.backup")
    assert (tmp_path / "old.db").read_bytes() == before
    shutil.copy(tmp_path / "old.db", tmp_path / "copy.db")
    restore(tmp_path / "old.backup", str(tmp_path / "new.db"))
    with EditMemory(tmp_path / "new.db", encoder=HashingEncoder()) as new:
        restored = [list(new.list(state="all", namespace=space)) for space in new.namespaces()]
    with EditMemory(tmp_path / "copy.db", encoder=HashingEncoder()) as old:
        assert restored == [list(old.list(state="all", namespace=space)) for space in old.namespaces()] != []


def test_when_the_memory_cannot_be_put_in_its_place_the_versions_are_taken_away_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(loading, "_place", full)
    with pytest.raises(StoreError, match="no space"):
        restore(whole, str(tmp_path / "b.db"))
    assert list(tmp_path.iterdir()) == []
