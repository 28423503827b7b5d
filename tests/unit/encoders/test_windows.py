"""split_long, split_sentences: every part of a long text is in some window or sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.encoders import split_long, split_sentences
from memedit.errors import InputError


# no character twice, so that where a window stands in the text is beyond doubt
@given(st.lists(st.characters(), max_size=400, unique=True).map("".join), st.integers(1, 40), st.integers(0, 39))
def test_every_character_that_is_not_space_is_in_some_window_in_order(text: str, size: int, overlap: int) -> None:
    parts = split_long(text, max_tokens=size, overlap=min(overlap, size - 1))
    at = covered = 0
    for part in parts:
        at = text.find(part, at)
        assert at >= 0
        assert not text[covered:at].strip()
        covered = max(covered, at + len(part))
    assert not text[covered:].strip()


def test_a_short_text_comes_back_verbatim() -> None:
    assert split_long("  Who is it? ") == ["  Who is it? "]
    assert split_long("") == [""]


def test_windows_overlap_and_are_cut_between_words() -> None:
    parts = split_long("one two three four five six seven", max_tokens=4, overlap=2)
    assert parts[:2] == ["one two three", "three four five"]
    assert all(part.split() == [w for w in part.split() if w in "one two three four five six seven"] for part in parts)


def test_a_word_longer_than_a_window_is_cut() -> None:
    assert "".join(split_long("x" * 100, max_tokens=5, overlap=0)) == "x" * 100
    assert max(map(len, split_long("字" * 100, max_tokens=5, overlap=0))) == 5


def test_max_parts_keeps_both_ends() -> None:
    text = " ".join(f"w{i}" for i in range(1000))
    parts = split_long(text, max_tokens=20, overlap=0, max_parts=3)
    assert len(parts) == 3
    assert parts[0].startswith("w0 ")
    assert parts[-1].endswith(" w999")


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="overlap"):
        split_long("a", max_tokens=4, overlap=4)
    with pytest.raises(InputError, match="max_parts"):
        split_long("a", max_parts=0)


@given(st.text(max_size=300))
def test_sentences_keep_every_character_that_is_not_space(text: str) -> None:
    sentences = split_sentences(text, max_tokens=20, overlap=0)
    assert "".join("".join(sentences).split()) == "".join(text.split())


def test_sentences_end_at_stops_and_line_breaks() -> None:
    text = (
        "Walter Gay painted rooms. Where did he die?\nName the town\n\n彼はどこで生まれましたか。町の名前は何ですか。"
    )
    assert split_sentences(text) == [
        "Walter Gay painted rooms.",
        "Where did he die?",
        "Name the town",
        "彼はどこで生まれましたか。",
        "町の名前は何ですか。",
    ]


def test_fragments_stay_with_what_stands_before_them() -> None:
    assert split_sentences("He was seen by M. Gay at noon. So. And on it went.") == [
        "He was seen by M.",
        "Gay at noon. So.",
        "And on it went.",
    ]


def test_long_sentences_are_cut() -> None:
    assert split_sentences("one two three four five six seven", max_tokens=4, overlap=0) == [
        "one two three",
        "four five six",
        "seven",
    ]
    assert split_sentences(" \n ") == []
