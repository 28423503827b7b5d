"""Artefacts, settings, counts, saving, rebuilding, forgetting."""

import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memedit.errors import EditNotFoundError, InputError
from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder

ENCODER = HashingEncoder(16)


def fill(memory: EditMemory, count: int = 300) -> tuple[str, ...]:
    return memory.add_many(
        [{"prompt": f"the colour of thing {i} is", "target": f"shade {i}"} for i in range(count)]
    ).ids


def test_importing_the_memory_loads_no_neural_network() -> None:
    code = (
        "import sys, memedit.memory\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'faiss'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_and_adding_load_the_encoder_only_when_it_is_needed() -> None:
    with EditMemory(encoder="no such encoder") as memory:
        assert memory.list() == memory.search("x") == []
        assert memory.stats().encoder is None
        assert memory.verify().ok
        with pytest.raises(Exception, match="no such encoder"):
            memory.add("x y z", "w")
        assert memory.revision == 0


def test_artefacts_belong_to_edits_and_fingerprints(memory: EditMemory) -> None:
    one, two = memory.add("a b c", "x"), memory.add("d e f", "y")
    revision = memory.revision
    memory.put_artefacts("recipe", "model-1", {one.id: b"1", two.id: b"\0\xff"})
    assert memory.revision > revision
    assert memory.get_artefacts("recipe", "model-1", [two.id, one.id, "absent"]) == {one.id: b"1", two.id: b"\0\xff"}
    assert memory.get_artefacts("recipe", "model-2", [one.id]) == {}
    assert memory.get_artefacts("serac", "model-1", [one.id]) == {}
    assert memory.get_artefacts("recipe", "model-1", [one.id], namespace="other") == {}
    memory.put_artefacts("recipe", "model-1", {one.id: b"2"})
    memory.update(one.id, metadata={"note": 1})
    assert memory.get_artefacts("recipe", "model-1", [one.id]) == {one.id: b"2"}
    memory.update(one.id, target="z")
    assert memory.get_artefacts("recipe", "model-1", [one.id, two.id]) == {two.id: b"\0\xff"}
    with pytest.raises(EditNotFoundError):
        memory.put_artefacts("recipe", "model-1", {two.id: b"3", "absent": b""})
    assert memory.get_artefacts("recipe", "model-1", [two.id]) == {two.id: b"\0\xff"}


def test_settings_are_durable_and_of_one_namespace(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=ENCODER) as memory:
        assert memory.get_setting("threshold") is None
        memory.set_setting("threshold", "0.61")
        memory.set_setting("threshold", "0.62", namespace="other")
        revision = memory.revision
        memory.set_setting("threshold", "0.61")
        assert memory.revision == revision
    with EditMemory(path, encoder=ENCODER) as memory:
        assert memory.get_setting("threshold") == "0.61"
        assert memory.get_setting("threshold", namespace="other") == "0.62"
        memory.set_setting("threshold", None)
        assert memory.get_setting("threshold") is None


def test_stats_count_without_loading_anything(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=ENCODER) as memory:
        ids = fill(memory)
        memory.delete(ids[0])
        memory.supersede(ids[1], target="other")
        memory.add("a b c", "x", namespace="second", paraphrases=("d",))
        memory.save_index()
    with EditMemory(path, encoder="minilm") as memory:
        stats = memory.stats()
        assert stats.edits == {"active": 299, "retired": 2}
        assert (stats.versions, stats.texts) == (303, 301)
        assert stats.namespaces == memory.namespaces() == ("default", "second")
        assert (stats.encoder, stats.dimension) == (ENCODER.name, 16)
        assert (stats.index_kind, stats.index_rows) == ("flat", 299)
        assert stats.database_bytes == path.stat().st_size
        assert not memory._encoder.loaded


@pytest.mark.parametrize("kind", ["flat", "exact"])
def test_a_saved_index_is_loaded_and_caught_up(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=ENCODER, index=kind) as memory:
        ids = fill(memory)
        memory.save_index()
        memory.delete(ids[5])
        memory.update(ids[6], prompt="a wholly new question", paraphrases=["and its other wording"])
        memory.supersede(ids[7], target="never seen")
    from memedit.memory.search.namespace_index import NamespaceIndex

    def forbidden(*_: object) -> None:
        raise AssertionError("rebuilt although the saved index was good")

    monkeypatch.setattr(NamespaceIndex, "_rebuild_vectors", forbidden)
    with EditMemory(path, encoder=ENCODER, index=kind) as memory:
        report = memory.verify()
        assert report.ok, report.problems
        assert report.index_rows == 300
        for query, target in [("and its other wording", "shade 6"), ("the colour of thing 7 is", "never seen")]:
            assert memory.candidates(ENCODER.encode_tokens([query]))[0][0].edit.target == target


def test_closing_saves_the_index_after_larger_changes_and_never_after_reads(tmp_path: Path) -> None:
    path, folder = tmp_path / "edits.db", tmp_path / "edits.db.index"
    query = ENCODER.encode_tokens(["the colour of thing 7 is"])
    with EditMemory(path, encoder=ENCODER) as memory:
        fill(memory)
    assert not folder.exists(), "no look-up, no index"
    with EditMemory(path, encoder=ENCODER) as memory:
        memory.candidates(query)
    assert not folder.exists(), "reads never write"
    with EditMemory(path, encoder=ENCODER) as memory:
        memory.candidates(query)
        memory.add("a b c", "x")
        memory.candidates(query)
    names = {file.name for file in folder.iterdir()}
    assert names
    with EditMemory(path, encoder=ENCODER) as memory:
        memory.candidates(query)
        memory.add("d e f", "x")
        memory.candidates(query)
    assert {file.name for file in folder.iterdir()} == names, "one edit more is caught up, not saved"


def test_rebuild_makes_vectors_and_index_anew(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=ENCODER) as memory:
        ids = fill(memory)
        memory.delete(ids[0])
        assert memory.rebuild() == 299
        assert memory.verify().ok
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM vectors")
    connection.close()
    done: list[tuple[int, int]] = []
    with EditMemory(path, encoder=ENCODER) as memory:
        assert memory.rebuild(progress=lambda *step: done.append(step)) == 299
        assert done == [(300, 300)]
        assert memory.verify().ok
        memory.restore(ids[0])
        assert memory.candidates(ENCODER.encode_tokens(["the colour of thing 0 is"]))[0][0].edit.id == ids[0]


def test_vacuum_shrinks_the_file_and_forgets_when_told(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=ENCODER) as memory, EditMemory(path, encoder=ENCODER) as reader:
        ids = fill(memory, 600)
        query = ENCODER.encode_tokens(["the colour of thing 3 is"])
        assert reader.candidates(query)[0][0].edit.id == ids[3]
        for edit_id in ids[:3]:
            memory.update(edit_id, paraphrases=["another wording of it"])
        memory.delete_many(ids[3:500])
        size = memory.stats().database_bytes
        memory.vacuum()
        assert len(memory.list(state="all")) == 600
        with pytest.raises(InputError, match="ISO 8601"):
            memory.vacuum(forget_before="soon")  # type: ignore[arg-type]
        memory.vacuum(forget_before=datetime.now(UTC))
        assert size is not None
        assert path.stat().st_size < size / 2
        assert [edit.id for edit in memory.list(state="all")] == [*ids[:3], *ids[500:]]
        with pytest.raises(EditNotFoundError):
            memory.history(ids[3])
        assert [change.edit.version for change in memory.history(ids[0])] == [2]
        assert reader.verify().ok
        assert ids[3] not in [c.edit.id for c in reader.candidates(query)[0]]
        assert memory.add("something new is", "x").id not in ids


def test_states_move_together(memory: EditMemory) -> None:
    ids = fill(memory, 4)
    memory.set_states(ids[:2], "consolidated", link="v0001")
    assert [(c.action, c.other) for c in memory.history(ids[0])][-1] == ("state", "v0001")
    assert [edit.id for edit in memory.list(state="consolidated")] == [*ids[:2]]
    memory.delete(ids[3])
    revision = memory.revision
    with pytest.raises(InputError, match="withdrawn"):
        memory.set_states(ids, "active")
    with pytest.raises(EditNotFoundError):
        memory.set_states([*ids[:3], "absent"], "active")
    assert memory.revision == revision


def test_a_lease_is_held_by_one_owner_until_it_is_given_back_or_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "edits.db"
    with EditMemory(path, encoder=HashingEncoder()) as one, EditMemory(path, encoder=HashingEncoder()) as two:
        revision = one.revision
        assert one.lease("consolidation") is None
        assert one.acquire_lease("consolidation", "a", 60)
        assert not two.acquire_lease("consolidation", "b", 60)
        assert one.acquire_lease("consolidation", "a", 60), "its holder prolongs it"
        assert two.acquire_lease("consolidation", "b", 60, namespace="other"), "each namespace has its own"
        held = two.lease("consolidation")
        assert held is not None
        assert held.owner == "a"
        two.release_lease("consolidation", "b")
        assert not two.acquire_lease("consolidation", "b", 60), "only its holder gives it back"
        one.release_lease("consolidation", "a")
        assert two.acquire_lease("consolidation", "b", 0.01)
        time.sleep(0.02)
        assert two.lease("consolidation") is None
        assert one.acquire_lease("consolidation", "a", 60), "a holder that died has lost it"
        assert one.revision == revision
        with pytest.raises(InputError, match="above 0"):
            one.acquire_lease("consolidation", "a", 0)


def test_progress_counts_texts(memory: EditMemory) -> None:
    steps: list[tuple[int, int]] = []
    rows = [{"prompt": f"p {i}", "target": "x", "paraphrases": [f"q {i}"]} for i in range(3)]
    memory.add_many(rows, progress=lambda *step: steps.append(step))
    assert steps[-1] == (6, 6)
