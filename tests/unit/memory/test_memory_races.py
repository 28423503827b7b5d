"""Another process commits between the planning of a change and its transaction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memedit.errors import ConflictError, InputError
from memedit.memory import EditMemory
from memedit.types import FloatArray
from support.hashing_encoder import HashingEncoder


class Interrupting(HashingEncoder):
    """Runs ``between`` once, while a change is being encoded."""

    between: Callable[[], Any] | None = None

    def encode(self, texts: Any, **options: Any) -> FloatArray:
        action, self.between = self.between, None
        if action is not None:
            action()
        return super().encode(texts, **options)


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    """A memory that is interrupted, its encoder, and the memory of another process."""
    encoder = Interrupting(16)
    path = tmp_path / "e.db"
    with EditMemory(path, encoder=encoder) as memory, EditMemory(path, encoder=HashingEncoder(16)) as other:
        yield memory, encoder, other


def test_rows_that_another_process_added_meanwhile_are_duplicates(pair: Any) -> None:
    memory, encoder, other = pair
    rows = [
        {"prompt": f"prompt number {i} is", "target": "x", "paraphrases": [f"other {i}"] * (i % 2)} for i in range(5)
    ]
    encoder.between = lambda: other.add_many(rows[1:3])
    report = memory.add_many(rows)
    assert len(report.added) == 3
    assert len(report.duplicates) == 2
    assert set(report.ids) == {edit.id for edit in memory.list()}
    assert memory.verify().problems == ()
    for i in range(5):
        found = other.candidates(other.encoder.encode_tokens([f"prompt number {i} is"]))[0][0]
        assert (found.edit.prompt, round(found.similarity, 3)) == (f"prompt number {i} is", 1.0)


def test_a_row_withdrawn_meanwhile_is_encoded_and_added_again(pair: Any) -> None:
    memory, encoder, other = pair
    first = memory.add("the first prompt is", "x")
    encoder.between = lambda: other.delete(first.id)
    report = memory.add_many([{"prompt": "the first prompt is", "target": "x"}, {"prompt": "second is", "target": "y"}])
    assert first.id not in report.ids
    assert memory.count() == 2
    assert memory.verify().problems == ()


def test_a_contradiction_that_arrives_meanwhile_is_refused_or_superseded(pair: Any) -> None:
    memory, encoder, other = pair
    encoder.between = lambda: other.add("the tower is in", "Oslo")
    with pytest.raises(ConflictError):
        memory.add("the tower is in", "Rome")
    assert [edit.target for edit in memory.list()] == ["Oslo"]
    encoder.between = lambda: other.add("the bridge is in", "Oslo")
    memory.add("the bridge is in", "Rome", on_conflict="supersede")
    assert sorted(edit.target for edit in memory.list()) == ["Oslo", "Rome"]


def test_an_edit_changed_meanwhile_is_changed_from_its_new_version(pair: Any) -> None:
    memory, encoder, other = pair
    edit = memory.add("the tower is in", "Rome", metadata={"a": 1})
    encoder.between = lambda: other.update(edit.id, metadata={"a": 2})
    changed = memory.update(edit.id, prompt="the lighthouse is in")
    assert (changed.version, changed.metadata) == (3, {"a": 2})
    encoder.between = lambda: other.update(edit.id, metadata={"a": 4})
    edit = memory.supersede(edit.id, target="Bonn")
    assert (edit.prompt, edit.metadata) == ("the lighthouse is in", {"a": 4})
    encoder.between = lambda: other.delete(edit.id)
    with pytest.raises(InputError, match="withdrawn"):
        memory.update(edit.id, prompt="the castle is in")
    memory.restore(edit.id)
    encoder.between = lambda: other.delete(edit.id)
    with pytest.raises(InputError, match="withdrawn"):
        memory.supersede(edit.id, target="Oslo")
    assert memory.count() == 0
    assert memory.verify().problems == ()
