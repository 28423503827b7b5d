"""The version store: folders, aliases, ledger."""

import multiprocessing
import os
import random
import time
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.consolidation.ledger import Action, Aliases, Entry, Ledger, fold
from memedit.consolidation.records import RECORD, SolvedEdit, VersionRecord, read_record, write_record
from memedit.consolidation.versions import VersionStore
from memedit.errors import ModelNotFoundError, StoreCorruptError, StoreError
from support.version_files import build, change_until_killed, made_up_record

pytestmark = pytest.mark.slow

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions")


def test_aliases_follow_what_happens(store: VersionStore) -> None:
    assert store.names() == []
    assert store.aliases() == Aliases()
    assert store.champion() is None
    one = store.make(build)
    assert (one, store.aliases().candidate) == ("v0001", "v0001")
    assert store.promote("candidate") == Aliases(champion=one)
    two = store.make(build)
    assert store.promote(two) == Aliases(champion=two, previous=one)
    three = store.make(build)
    assert store.reject(three) == Aliases(champion=two, previous=one)
    assert store.rollback() == Aliases(champion=one, previous=two)
    assert store.rollback() == Aliases(champion=two, previous=one)
    assert store.promote(two) == store.aliases(), "promoting the champion changes nothing"
    assert [entry.action for entry in store.entries()] == [
        Action.MADE, Action.PROMOTED, Action.MADE, Action.PROMOTED, Action.MADE, Action.REJECTED,
        Action.ROLLED_BACK, Action.ROLLED_BACK,
    ]  # fmt: skip
    assert store.problems() == []
    assert store.record("champion").name == two


def test_the_first_version_can_be_rolled_back_to_the_plain_base(store: VersionStore) -> None:
    with pytest.raises(StoreError, match="nothing to roll back"):
        store.rollback()
    store.promote(store.make(build))
    assert store.rollback() == Aliases(champion=None, previous="v0001")
    with pytest.raises(ModelNotFoundError, match="plain base"):
        store.resolve("champion")
    assert store.rollback().champion == "v0001"
    assert store.promote(None) == Aliases(champion=None, previous="v0001")


def test_links_lead_where_the_aliases_do(store: VersionStore) -> None:
    store.promote(store.make(build))
    store.promote(store.make(build))
    assert os.readlink(store.root / "champion") == "v0002"
    assert (store.root / "previous" / RECORD).is_file()
    assert not (store.root / "candidate").exists()
    store.rollback()
    assert os.readlink(store.root / "champion") == "v0001"


def test_a_build_that_fails_leaves_nothing(store: VersionStore) -> None:
    store.promote(store.make(build))

    def fail(name: str, folder: Path) -> None:
        build(name, folder)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        store.make(fail)
    assert store.names() == ["v0001"]
    assert store.aliases() == Aliases(champion="v0001")
    assert sorted(p.name for p in store.root.iterdir() if p.suffix == ".partial") == []
    assert store.make(build) == "v0002"


def test_pruning_keeps_what_has_an_alias_and_never_reuses_a_name(store: VersionStore) -> None:
    store.promote(store.make(build))
    for _ in range(4):
        store.make(build)
    assert store.prune(keep=1) == ["v0002", "v0003", "v0004"]
    assert store.names() == ["v0001", "v0005"]
    assert store.problems() == []
    assert store.make(build) == "v0006"


def test_damage_is_seen(store: VersionStore) -> None:
    store.promote(store.make(build))
    (store.folder("champion") / "part1.bin").write_bytes(b"x")
    (store.folder("champion") / "part2.bin").unlink()
    assert store.problems() == ["v0001: part1.bin has changed", "v0001: part2.bin is missing"]


def test_unknown_versions_are_answered_with_what_there_is(store: VersionStore) -> None:
    store.make(build)
    with pytest.raises(ModelNotFoundError, match="'v0001'"):
        store.folder("v0002")


def test_a_torn_line_is_no_entry_and_is_cut_off(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(Action.MADE, "v0001")
    whole = ledger.path.read_bytes()
    for cut in range(1, len(whole)):
        ledger.path.write_bytes(whole + whole[:cut].replace(b"\n", b" "))
        assert len(ledger.entries()) == 1
    ledger.append(Action.PROMOTED, "v0001", {"by": "ä"})
    assert [e.action for e in ledger.entries()] == [Action.MADE, Action.PROMOTED]
    assert ledger.entries()[1].detail == {"by": "ä"}


def test_damaged_lines_are_an_error_not_a_silence(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for _ in range(3):
        ledger.append(Action.MADE, "v0001")
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join([lines[0], lines[2]]))
    with pytest.raises(StoreCorruptError, match="missing"):
        ledger.entries()
    ledger.path.write_bytes(b"".join([lines[0], b"{}\n", lines[2]]))
    with pytest.raises(StoreCorruptError, match="line 2"):
        ledger.entries()


@given(st.lists(st.tuples(st.sampled_from(list(Action)), st.sampled_from(["v1", "v2", "v3"])), max_size=12))
def test_a_rollback_undoes_a_promotion(steps: list[tuple[Action, str]]) -> None:
    entries = [Entry(i, _NOW, action, version) for i, (action, version) in enumerate(steps, start=1)]
    before = fold(entries)
    promoted = fold([*entries, Entry(98, _NOW, Action.PROMOTED, "v9")])
    assert promoted.champion == "v9"
    back = fold(
        [*entries, Entry(98, _NOW, Action.PROMOTED, "v9"), Entry(99, _NOW, Action.ROLLED_BACK, before.champion)]
    )
    assert (back.champion, back.previous) == (before.champion, "v9")


def test_a_record_survives_the_way_through_its_file(tmp_path: Path) -> None:
    edits = (SolvedEdit("a", "h1", True), SolvedEdit("b", "h2", False, "the weights answer 'x'"))
    record = made_up_record("v0001", edits, rejected=(SolvedEdit("c", "h3", False, "no"),))
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert [e.id for e in record.served] == ["a"]
    assert [e.id for e in record.left_over] == ["b", "c"]
    assert read_record(tmp_path / "absent") is None
    (tmp_path / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(StoreCorruptError, match="not JSON"):
        read_record(tmp_path)
    with pytest.raises(StoreCorruptError, match="format 99"):
        VersionRecord.parse({**record.as_json(), "format": 99}, "x")
    with pytest.raises(StoreCorruptError, match="no record"):
        VersionRecord.parse({"format": 1}, "x")


def run_and_kill(processes: ForkServerContext, root: Path, seed: int) -> list[tuple[str, object]]:
    receive, send = processes.Pipe(duplex=False)
    writer = processes.Process(target=change_until_killed, args=(str(root), seed, send), daemon=True)
    rng = random.Random(seed)
    writer.start()
    send.close()
    heard = [receive.recv() for _ in range(rng.randint(0, 6))]
    time.sleep(rng.uniform(0, 0.02))
    writer.kill()
    writer.join()
    while True:
        try:
            heard.append(receive.recv())
        except (EOFError, OSError):
            return heard


def test_a_kill_at_any_moment_leaves_whole_versions_and_what_was_acknowledged(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["support.version_files"])
    root = tmp_path / "versions"
    store = VersionStore(root)
    acknowledged = 0
    for seed in range(int(os.environ.get("MEMEDIT_KILLS", "12"))):
        before = len(store.entries())
        heard = run_and_kill(processes, root, seed)
        acknowledged += len(heard)
        assert store.problems() == [], "before any writer has tidied up"
        entries = store.entries()
        changes = [message for message in heard if message[0] != "prune"]
        told = [e for e in entries[before:] if e.action is not Action.REMOVED]
        assert len(changes) <= len(told) <= len(changes) + 1, "at most the step under way was done unacknowledged"
        if changes and len(told) == len(changes):
            kind, result = changes[-1]
            now = store.aliases()
            assert result == (now.candidate if kind == "make" else now.named())
    assert acknowledged > 12
    store.make(build)
    assert sorted(p.name for p in root.glob("*.partial")) == []
    links = {alias: os.readlink(root / alias) for alias in store.aliases().named() if (root / alias).is_symlink()}
    assert links == {alias: name for alias, name in store.aliases().named().items() if name is not None}
