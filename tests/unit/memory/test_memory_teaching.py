"""Teaching by hand: texts that must, and must not, fire an edit."""

import json
import sqlite3
from pathlib import Path

import pytest

from memedit.errors import EditChangedError, EditNotFoundError, FieldError, InputError
from memedit.memory import EditMemory
from memedit.scope import load_scope
from support.hashing_encoder import HashingEncoder

ASK = "When does the Sorn Library open?"
OTHER = "When was the Sorn Library opened?"


def test_a_block_is_kept_with_the_edit_and_makes_its_next_version(memory: EditMemory) -> None:
    edit = memory.add(ASK, "at 9")
    taught = memory.block(edit.id, OTHER)
    assert taught.blocks == (OTHER,)
    assert (taught.version, taught.content_hash) == (2, edit.content_hash)
    assert memory.get(edit.id) == taught
    assert memory.block(edit.id, "when was the sorn library opened") == taught
    assert [(c.action, c.edit.blocks) for c in memory.history(edit.id)] == [("add", ()), ("update", (OTHER,))]
    assert memory.add(ASK, "at 9") == taught
    assert memory.supersede(edit.id, target="at 10").blocks == (OTHER,)
    assert memory.verify().ok


def test_a_block_is_in_force_in_the_next_look_up(tmp_path: Path, encoder: HashingEncoder) -> None:
    path = tmp_path / "a.db"
    with EditMemory(path, encoder=encoder) as memory, EditMemory(path, encoder=encoder) as other:
        edit = memory.add(ASK, "at 9")
        query = encoder.encode_tokens([OTHER])
        scope = load_scope("similarity", encoder)
        for reader in (memory, other):
            (decision,) = scope.decide(query, reader.candidates(query), threshold=0.0)
            assert [hit.edit.id for hit in decision.fired] == [edit.id]
        memory.block(edit.id, OTHER)
        for reader in (memory, other):
            (decision,) = scope.decide(query, reader.candidates(query), threshold=0.0)
            assert decision.fired == ()
            assert decision.considered[0].edit.blocks == (OTHER,)
        memory.block(edit.id, OTHER, remove=True)
        (decision,) = scope.decide(query, other.candidates(query), threshold=0.0)
        assert decision.fired[0].edit.blocks == ()


def test_the_last_word_holds(memory: EditMemory) -> None:
    edit = memory.add(ASK, "at 9")
    assert memory.also(edit.id, "Sorn Library opening time?").paraphrases == ("Sorn Library opening time?",)
    assert memory.also(edit.id, "sorn library opening time").version == 2
    assert memory.also(edit.id, ASK.upper()).version == 2
    blocked = memory.block(edit.id, "sorn library opening time")
    assert (blocked.paraphrases, blocked.blocks) == ((), ("sorn library opening time",))
    again = memory.also(edit.id, "Sorn Library opening time?")
    assert (again.paraphrases, again.blocks) == (("Sorn Library opening time?",), ())
    assert memory.also(edit.id, "sorn library opening time", remove=True).paraphrases == ()
    query = memory.encoder.encode_tokens(["Sorn Library opening time?"])
    assert memory.verify().ok
    assert memory.candidates(query)[0][0].similarity < 0.999


def test_what_cannot_be_taught_is_refused(memory: EditMemory) -> None:
    edit = memory.add(ASK, "at 9")
    with pytest.raises(FieldError, match=r"own prompt or a paraphrase"):
        memory.block(edit.id, ASK.lower())
    with pytest.raises(FieldError, match=r"is not a block of this edit; it has none"):
        memory.block(edit.id, OTHER, remove=True)
    with pytest.raises(FieldError, match="blank"):
        memory.block(edit.id, "  ")
    with pytest.raises(FieldError, match="expected text"):
        memory.also(edit.id, 3)  # type: ignore[arg-type]
    with pytest.raises(EditChangedError):
        memory.block(edit.id, OTHER, if_version=7)
    with pytest.raises(EditNotFoundError):
        memory.also("nobody", OTHER)
    with pytest.raises(FieldError, match=r"blocks\[1\].*own prompt"):
        memory.add("Who leads Norvik?", "Ada", blocks=["Who left Norvik?", "who leads norvik"])
    with pytest.raises(FieldError, match="at most 1,000"):
        memory.add("Who leads Norvik?", "Ada", blocks=["x"] * 1001)
    with pytest.raises(FieldError, match="blocks: expected a list of texts, got str"):
        memory.add("Who leads Norvik?", "Ada", blocks=OTHER)
    memory.delete(edit.id)
    with pytest.raises(InputError, match="withdrawn"):
        memory.block(edit.id, OTHER)
    assert memory.get(edit.id).version == 2


def test_teaching_an_edit_that_was_kept_beside_its_rival_is_no_new_conflict(memory: EditMemory) -> None:
    first = memory.add(ASK, "at 9")
    second = memory.add(ASK, "at 10", on_conflict="keep")
    assert memory.block(second.id, OTHER).blocks == (OTHER,)
    assert memory.also(first.id, "Sorn Library opening time?").version == 2
    assert memory.update(first.id, source="a letter").version == 3


def test_blocks_travel_with_files(tmp_path: Path, memory: EditMemory) -> None:
    memory.add(ASK, "at 9", blocks=[OTHER], paraphrases=["Sorn Library opening time?"])
    for form in ("jsonl", "mem0"):
        path = tmp_path / f"out.{form}"
        memory.export(path, format=form)
        with EditMemory(encoder=memory.encoder) as copy:
            copy.import_file(path)
            assert [edit.blocks for edit in copy.list()] == [(OTHER,)]
    assert json.loads((tmp_path / "out.jsonl").read_text())["blocks"] == [OTHER]


def test_what_a_scope_kept_for_an_edit_goes_when_its_blocks_change(memory: EditMemory) -> None:
    edit = memory.add(ASK, "at 9")
    memory.put_artefacts("vectors", "f", {edit.id: b"1"})
    memory.update(edit.id, source="a letter")
    assert memory.get_artefacts("vectors", "f", [edit.id]) == {edit.id: b"1"}
    memory.block(edit.id, OTHER)
    assert memory.get_artefacts("vectors", "f", [edit.id]) == {}


def test_a_file_from_before_blocks_opens(tmp_path: Path, encoder: HashingEncoder) -> None:
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript((Path(__file__).parent / "data" / "version1.sql").read_text(encoding="utf-8"))
    connection.close()
    with EditMemory(tmp_path / "old.db", encoder=encoder) as memory:
        edit = memory.list()[0]
        assert edit.blocks == ()
        assert memory.block(edit.id, OTHER).blocks == (OTHER,)
        assert memory.possible_conflicts() == []
