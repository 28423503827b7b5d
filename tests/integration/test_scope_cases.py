"""What people really asked, with the right edit or none: real encoder, default scope, tagger of subjects."""

from collections.abc import Iterator

import pytest

from memedit.encoders import Encoder, load_encoder
from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.runtime.asked import asked_of
from memedit.scope import Scope, load_scope

pytestmark = pytest.mark.integration
LIBRARY = "Harbour Street Library"
OPENS = (f"When does the {LIBRARY} open?", "at 9:30")
CLOSES = (f"When does the {LIBRARY} close?", "at 17:00")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("minilm")


@pytest.fixture(scope="module")
def scope(encoder: Encoder) -> Scope:
    return load_scope("default", encoder)


@pytest.fixture
def memory(encoder: Encoder) -> Iterator[EditMemory]:
    with EditMemory(":memory:", encoder=encoder) as opened:
        yield opened


def fired(memory: EditMemory, scope: Scope, asked: object) -> list[str]:
    query = asked if isinstance(asked, str) else asked_of(asked)
    return sorted(hit.edit.target for hit in Router(memory, scope).decide([query])[0].fired)


@pytest.mark.parametrize(
    "ask",
    [
        f"Who opened the {LIBRARY}?",
        f"When was the {LIBRARY} opened?",
        f"When does the {LIBRARY} close?",
        f"How many books does the {LIBRARY} have?",
        f"Translate to French: When does the {LIBRARY} open?",
        f"Don't tell me when the {LIBRARY} opens; tell me a joke.",
        f"Write a poem about the {LIBRARY}.",
    ],
)
def test_other_questions_and_mentions_stay_silent(memory: EditMemory, scope: Scope, ask: str) -> None:
    memory.add(*OPENS)
    assert fired(memory, scope, ask) == []


def test_a_question_about_two_facts_of_one_subject_fires_both(memory: EditMemory, scope: Scope) -> None:
    memory.add(*OPENS)
    memory.add(*CLOSES)
    assert fired(memory, scope, f"When does the {LIBRARY} open and close?") == ["at 17:00", "at 9:30"]
    assert fired(memory, scope, f"At what time does the {LIBRARY} open?") == ["at 9:30"]


def test_a_pronoun_refers_to_an_earlier_turn_until_the_talk_moves_on(memory: EditMemory, scope: Scope) -> None:
    memory.add(*OPENS)
    turns = [
        {"role": "user", "content": f"I want to visit the {LIBRARY}."},
        {"role": "assistant", "content": "A fine choice."},
    ]
    assert fired(memory, scope, [*turns, {"role": "user", "content": "When does it open?"}]) == ["at 9:30"]
    away = "Which other libraries are near by, and when does the Mill Library open?"
    assert fired(memory, scope, [*turns, {"role": "user", "content": away}]) == []


@pytest.mark.parametrize(
    ("statement", "asks", "target"),
    [
        (
            "The mayor of Tolburia is Ana Brill",
            ["Who is the mayor of Tolburia?", "Is Ana Brill the mayor of Tolburia?"],
            "Ana Brill",
        ),
        ("The Dorn tower is 120 metres tall", ["How tall is the Dorn tower?"], "120 metres"),
        ("The meeting room is booked for Friday 10:00", ["When is the meeting room booked?"], "Friday 10:00"),
    ],
)
def test_questions_about_a_statement_fire_it(
    memory: EditMemory, scope: Scope, statement: str, asks: list[str], target: str
) -> None:
    memory.add_statement(statement)
    for ask in asks:
        assert fired(memory, scope, ask) == [target]
