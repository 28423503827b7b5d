"""Folding of words: spans point into the text, and what must not matter does not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.index.words import _ascii_words, _unicode_words, folded_words, words

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def folded(text: str) -> list[str]:
    return [word.folded for word in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zoë's café", ["zoe", "cafe"]),
        ("Zoë’s café", ["zoe", "cafe"]),
        ("L'Aquila", ["l", "aquila"]),
        ("İstanbul'da", ["istanbul", "da"]),
        ("C++ & C#", ["c", "+", "+", "and", "c", "#"]),
        ("Łódź Straße Ørsted", ["lodz", "strasse", "orsted"]),
        ("東京タワー", ["東", "京", "タワー"]),
        ("서울은", ["서", "울", "은"]),
        ("हिन्दी", ["हिन्दी"]),
        ("Ｆｕｌｌ", ["full"]),
        ("the dog's s", ["the", "dog", "s"]),
        (" \n\t.,;", []),
    ],
)
def test_examples(text: str, expected: list[str]) -> None:
    assert folded(text) == expected


@given(TEXT)
def test_spans_are_ordered_and_inside(text: str) -> None:
    end = 0
    for word in words(text):
        assert end <= word.start < word.end <= len(text)
        assert word.folded
        end = word.end


@given(TEXT)
def test_case_and_composition_do_not_matter(text: str) -> None:
    # only letters whose case mapping comes back: "ß".upper() is "SS", "ı" has the capital of "i"
    text = "".join(c for c in text if c.upper().lower() == c.lower() and len(c.upper()) == 1)
    assert folded(text.upper()) == folded(text.lower())


@given(st.text(st.characters(min_codepoint=0xC0, max_codepoint=0x24F), max_size=40))
def test_decomposed_text_folds_alike(text: str) -> None:
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text))


@given(st.text(st.characters(max_codepoint=127), max_size=80))
def test_the_ascii_path_equals_the_general_one(text: str) -> None:
    assert _ascii_words(text) == _unicode_words(text)


@given(st.one_of(TEXT, st.text(st.characters(max_codepoint=127), max_size=80)))
def test_folded_words_are_those_of_words(text: str) -> None:
    assert folded_words(text) == folded(text)
