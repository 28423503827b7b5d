"""What is prepared for every edit: page by page, and again only for what is new."""

from collections.abc import Mapping, Sequence

import pytest

from memedit.memory import EditMemory
from memedit.runtime import artefacts
from memedit.runtime.artefacts import Artefacts
from memedit.types import Edit, EditState
from support.hashing_encoder import HashingEncoder


class Prepares:
    """Prepares edits whose target is a number; counts what it is asked for."""

    name = fingerprint = "numbers"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        self.asked += [edit.id for edit in edits]
        return {edit.id: edit.target.encode() for edit in edits if edit.target.isdigit()}

    def missing(self, edits: Sequence[Edit]) -> list[Edit]:
        return list(edits)

    def accept(self, blobs: Mapping[str, bytes]) -> int:
        return len(blobs)


def test_every_edit_in_force_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("_PAGE", 10), ("_BATCH", 4), ("_WRITTEN", 6)):
        monkeypatch.setattr(artefacts, name, size)
    with EditMemory(encoder=HashingEncoder()) as memory:
        drafts = [{"prompt": f"Question {n}", "target": str(n) if n % 5 else "none"} for n in range(47)]
        ids = memory.add_many(drafts).ids
        memory.set_states(ids[:13], EditState.CONSOLIDATED)
        memory.delete(ids[20])
        scope, said = Prepares(), list[tuple[int, int]]()
        store = Artefacts(memory, None)
        assert store.store(scope, lambda done, total: said.append((done, total))) == 47 - 10
        assert sorted(scope.asked) == sorted(set(ids) - {ids[20]}), "each once"
        assert said[-1] == (46, 46)
        assert said == sorted(said)
        kept = memory.get_artefacts("numbers", "numbers", ids)
        assert kept == {edit.id: edit.target.encode() for edit in memory.list() if edit.target.isdigit()}
        scope.asked.clear()
        memory.add("Another question", "99")
        assert store.store(scope) == 1
        assert len(scope.asked) == 1 + 9, "the new one, and those that had nothing to keep"
