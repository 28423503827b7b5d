"""Texts as the classifier sees them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.scope.classifier.batch import MAX_QUERY_TOKENS, query_side, stack_edits, windows
from memedit.scope.classifier.views import edit_view, find_span, letter_vectors, sentence_start, text_view
from memedit.scope.classifier.vocabulary import WordRarity, count_documents

RARITY = WordRarity({"the": 90, "capital": 9, "of": 80, "is": 85}, 100)


def view_of(encoder, text, letters=True):
    encoding = encoder.encode_tokens([text])[0]
    spans = np.array(encoding.spans, np.int64).reshape(-1, 2)
    return text_view(text, encoding.tokens, spans, RARITY, letters=letters)


def test_rarity_falls_with_frequency_and_is_highest_for_unknown_words():
    counts, documents = count_documents(["The cat", "the dog", "the the owl"], limit=2)
    assert counts["the"] == 3
    rarity = WordRarity(counts, documents)
    assert rarity("the") < rarity("cat") <= rarity("zebra") == 1.0
    assert WordRarity({"a": 3}, 3)("a") >= 0.0


@pytest.mark.parametrize(
    ("text", "word", "sentence"),
    [
        ("It rained. Oslo is in", "Oslo", "Oslo is in"),
        ("A line\nOslo is in", "Oslo", "Oslo is in"),
        ("Dr. Dre is from", "Dre", "Dr. Dre is from"),
        ("J. K. Rowling wrote", "Rowling", "J. K. Rowling wrote"),
        ("Oslo is in", "Oslo", "Oslo is in"),
        ("これは本です。オスロは", "オスロ", "オスロは"),
    ],
)
def test_sentence_start(text, word, sentence):
    assert text[sentence_start(text, text.index(word)) :] == sentence


def test_tokens_know_their_words_and_punctuation_belongs_to_none(encoder):
    view = view_of(encoder, "the capital")
    assert view.token_word.tolist() == [0, 1]
    assert view.token_rarity[0] < view.token_rarity[1] < 1.0


def test_subject_is_found_by_folded_words():
    assert find_span("Is Zoë's café in MÁLAGA?", "malaga") == (17, 23)
    assert find_span("nothing here", "Málaga") is None
    assert find_span("nothing here", None) is None


def test_alike_spelling_scores_above_other_words():
    vectors = letter_vectors(["rainbird", "rainbrid", "gerald"])
    assert vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2]
    assert letter_vectors([]).shape == (0, vectors.shape[1])


def test_what_stands_before_the_subjects_sentence_is_left_out(encoder):
    text = "Some noise here. The capital of Peru is"
    side = query_side(view_of(encoder, text), [find_span(text, "Peru"), None])
    assert side.token_ok[0].tolist() == [False] * 3 + [True] * 5
    assert side.token_ok[1].all()
    assert side.token_subject[0].tolist() == [False] * 6 + [True, False]
    assert not side.token_subject[1].any()


def test_long_queries_are_cut_around_the_subject_and_at_the_end(encoder):
    text = " ".join(f"w{i}" for i in range(300)) + ". The capital of Peru is what? " + "tail " * 200
    view = view_of(encoder, text)
    span = find_span(text, "Peru")
    (first, one), (second, two) = windows(view, [span, None])
    assert (one, two) == ([0], [1])
    assert len(first.spans) <= MAX_QUERY_TOKENS
    assert len(second.spans) <= MAX_QUERY_TOKENS
    assert query_side(first, [span]).token_subject.any()
    assert second.spans[-1, 1] == view.spans[-1, 1]
    (only, both), *none = windows(view_of(encoder, "The capital of Peru is"), [span, None])
    assert both == [0, 1]
    assert not none
    assert len(only.spans) == 5


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60), subject=st.one_of(st.none(), st.text(max_size=12)))
def test_any_text_makes_a_view_that_stacks(text, subject):
    from scope_bench import Bench

    bench = Bench()
    edit = bench.edit(text, subject=subject)
    made = edit_view(edit, view_of(bench.encoder, text, letters=False), RARITY)
    other = edit_view(bench.edit("The capital of Peru is", subject="Peru"), view_of(bench.encoder, "Peru"), RARITY)
    stacked = stack_edits([made, other])
    assert stacked.token_ok.sum() == len(made.view.spans) + len(other.view.spans)
    assert (stacked.token_word <= stacked.word_ids.shape[1]).all()
