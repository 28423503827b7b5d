"""Which words of an edit are the weights' to answer."""

from dataclasses import replace

import pytest

from memedit.consolidation.held import EditsInWeights
from memedit.consolidation.records import SolvedEdit, WeightScope
from memedit.memory import EditMemory
from memedit.types import Edit
from support.hashing_encoder import HashingEncoder

PROMPT, SAID, NEVER = "The capital of Freedonia is", "Freedonia is ruled from", "Where does Freedonia's king live?"


@pytest.fixture(scope="module")
def edit() -> Edit:
    with EditMemory(encoder=HashingEncoder(8)) as memory:
        return memory.add(PROMPT, "Sylvania", subject="Freedonia", paraphrases=[SAID])


def held(edit: Edit, **known: object) -> EditsInWeights:
    solved = SolvedEdit(edit.id, edit.content_hash, True)
    return EditsInWeights([replace(solved, **known)], WeightScope.GATED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "answered"),
    [
        ({}, [True, True, True]),
        ({"served": False}, [False, False, False]),
        ({"content_hash": "another"}, [False, False, False]),
        ({"stored": (True, False), "any_wording": True}, [True, False, True]),
        ({"stored": (True, True), "any_wording": False}, [True, True, False]),
    ],
)
def test_words_that_were_asked_go_by_how_they_did(edit: Edit, known: dict[str, object], answered: list[bool]) -> None:
    found = held(edit, **known)
    assert [found.answer(edit, text, chat=False) for text in ("the CAPITAL of Freedonia is?", SAID, NEVER)] == answered


@pytest.mark.parametrize(("chat", "answered"), [(None, True), (True, False), (False, False)])
def test_as_a_chat_turn_only_the_prompt_was_asked(edit: Edit, chat: bool | None, answered: bool) -> None:
    found = held(edit, stored=(True, True), chat=chat)
    assert found.answer(edit, SAID, chat=True) is answered
    assert found.answer(edit, PROMPT, chat=True) is (chat is not False)
