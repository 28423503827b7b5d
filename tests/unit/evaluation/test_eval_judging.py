"""How answers are normalised and matched, and the measures of texts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import InputError
from memedit.evaluation.metrics.texts import ngram_entropy, rouge_l, tfidf_similarities, words
from memedit.evaluation.protocols import first_line, is_contained, is_exact, is_prefix, normalise_answer


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  The Knight's Cross. ", "knights cross"),
        ("U.S.", "us"),
        ("Indo - Greek kings", "indo greek kings"),
        ("Ｐａｒｉｓ", "paris"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("The The", "the the"),
        ("?!", "?!"),
        ("May 30 , 2017", "may 30 2017"),
    ],
)
def test_normalisation(text: str, wanted: str) -> None:
    assert normalise_answer(text) == wanted


@given(st.text())
def test_normalising_twice_is_as_once_for_what_matters(text: str) -> None:
    assert is_exact(text, [text])
    assert is_contained(text, [text])
    assert is_prefix(text, [text])


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        (" Paris.\nThe next line", "Paris."),
        ("\n\nParis\nmore", "Paris"),
        (" \n \n  Paris, France", "Paris, France"),
        ("", ""),
        ("\n\n", ""),
    ],
)
def test_the_answer_is_the_first_line_with_text(generated: str, answer: str) -> None:
    assert first_line(generated) == answer


@pytest.mark.parametrize(
    ("answer", "exact", "contains", "prefix"),
    [
        ("Paris", True, True, True),
        ("paris!", True, True, True),
        ("Paris, the capital", False, True, True),
        ("the city of Paris", False, True, False),
        ("Parisian", False, False, False),
        ("", False, False, False),
    ],
)
def test_exact_contains_and_prefix_are_kept_apart(answer: str, exact: bool, contains: bool, prefix: bool) -> None:
    wanted = ["Lutetia", "Paris"]
    assert (is_exact(answer, wanted), is_contained(answer, wanted), is_prefix(answer, wanted)) == (
        exact, contains, prefix,
    )  # fmt: skip


def _lcs(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=90)


@given(WORDS, WORDS)
def test_rouge_l_agrees_with_the_textbook_table(a: list[str], b: list[str]) -> None:
    score = rouge_l(" ".join(a), " ".join(b))
    common = _lcs(a, b)
    assert score.precision == pytest.approx(common / len(a) if a and b else 0)
    assert score.recall == pytest.approx(common / len(b) if a and b else 0)


def test_rouge_l_of_a_known_pair() -> None:
    # Lin 2004, section 3.1: "police killed the gunman" against "police kill the gunman" has F = 3/4
    assert rouge_l("police kill the gunman", "police killed the gunman").f1 == pytest.approx(0.75)


def test_repetition_drives_entropy_down() -> None:
    assert ngram_entropy("one two three four five six seven eight") > 2.5
    assert ngram_entropy("no no no no no no no no") == 0
    assert ngram_entropy("word") == 0
    # four bigrams of which two are the same: H2 = 1.5 bits; three different trigrams: H3 = log2(3)
    assert ngram_entropy("a b a b c") == pytest.approx((2 / 3 * 1.5 + 4 / 3 * 1.584962500721156) / 2)


def test_tfidf_weighs_rare_words_and_is_a_cosine() -> None:
    documents = ["the river aune", "the river ysk", "the mountain kerre"]
    pairs = [
        ("the river aune", "the river aune"),
        ("aune", "kerre"),
        ("the aune", "aune"),
        ("the aune", "the"),
        ("", "the"),
    ]
    same, apart, rare, common, empty = tfidf_similarities(pairs, documents)
    assert same == pytest.approx(1)
    assert apart == empty == 0
    assert rare > common
    # a word that no document has: idf = ln(4 / 1) + 1, beside ln(4 / 4) + 1 of a word that all have
    unseen = math.log(4) + 1
    assert tfidf_similarities([("the stranger", "the")], documents) == pytest.approx([1 / math.hypot(unseen, 1)])
    assert tfidf_similarities([("", "")], [""]) == [0]
    with pytest.raises(InputError, match="at least one document"):
        tfidf_similarities([], [])


def test_words_are_case_folded_runs() -> None:
    assert words("Ilda's Straße_2") == ["ilda", "s", "strasse_2"]
