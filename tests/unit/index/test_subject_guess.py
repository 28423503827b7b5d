"""The guess at a subject that needs no model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.index import guess_subject


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("The mother tongue of Maria Lindgren is", "Maria Lindgren"),
        ("Where was Ibrahim van der Berg born?", "Ibrahim van der Berg"),
        ("What was Maria Lindgren's occupation?", "Maria Lindgren"),
        ('In what year was the song "blue lantern" released?', "blue lantern"),
        ("In Rome, the language of Ole Berg is", "Ole Berg"),
        ("I moved to Ghent", "Ghent"),
    ],
)
def test_capitals_and_quotes(text: str, subject: str) -> None:
    assert guess_subject(text) == subject


def test_the_answer_is_the_last_choice() -> None:
    assert guess_subject("Paris Mill is the home of Maria", target="Paris Mill") == "Maria"
    assert guess_subject("Paris is big", target="Paris") == "Paris"


@pytest.mark.parametrize("text", ["", "???", "how old is he", "In 1999 it was 12", "I left", "WHO OWNS THE HERON?"])
def test_nothing_to_find(text: str) -> None:
    assert guess_subject(text) is None


@given(st.text(max_size=200), st.one_of(st.none(), st.text(max_size=20)))
def test_what_is_found_stands_in_the_text(text: str, target: str | None) -> None:
    found = guess_subject(text, target)
    assert found is None or (found in text and found)
