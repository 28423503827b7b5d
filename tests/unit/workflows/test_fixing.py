"""The question that is fixed names its subject."""

import pytest

from memedit.workflows.fixing import explicit_question

TALK = [
    {"role": "user", "content": "I want to visit the Harbour Street Library."},
    {"role": "assistant", "content": "A fine choice."},
]


@pytest.mark.parametrize(
    ("question", "explicit"),
    [
        ("When does it open?", "When does Harbour Street Library open?"),
        ("What are its hours?", "What are Harbour Street Library's hours?"),
        ("and on fridays?", "Harbour Street Library: and on fridays?"),
        ("Who runs Northlight Robotics?", "Who runs Northlight Robotics?"),
        ("Is it near the Dorn tower?", "Is it near the Dorn tower?"),
    ],
)
def test_the_subject_comes_from_an_earlier_turn(question: str, explicit: str) -> None:
    assert (
        explicit_question([*TALK, {"role": "user", "content": question}, {"role": "assistant", "content": "?"}])
        == explicit
    )


def test_her_is_owner_or_object() -> None:
    talk = [{"role": "user", "content": "Tell me about Ana Brill."}, {"role": "assistant", "content": "Gladly."}]
    assert explicit_question([*talk, {"role": "user", "content": "who is her father?"}]) == "who is Ana Brill's father?"
    assert explicit_question([*talk, {"role": "user", "content": "who hired her?"}]) == "who hired Ana Brill?"


def test_a_talk_without_a_name_leaves_the_question() -> None:
    assert explicit_question([{"role": "user", "content": "when does it open?"}]) == "when does it open?"
    assert explicit_question([{"role": "assistant", "content": "Hi"}]) == ""
