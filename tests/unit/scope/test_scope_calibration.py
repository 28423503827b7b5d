"""Choosing a threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import InputError
from memedit.scope import LabelledQuery, calibrate, load_scope
from memedit.types import Candidate, Encoding
from support.scope_bench import Bench, HashedWords


def labelled(bench, similarities, right):
    """One query per similarity, each with its own candidate."""
    examples = []
    for number, similarity in enumerate(similarities):
        edit = bench.edit(f"prompt {number}")
        query = Encoding(f"query {number}", np.zeros(48, np.float32), np.zeros((0, 48), np.float32), ())
        in_scope = frozenset({edit.id}) if right else frozenset()
        examples.append(LabelledQuery(query, (Candidate(edit, similarity, None),), in_scope))
    return examples


def test_threshold_lies_between_separable_scores(encoder, bench):
    examples = labelled(bench, [0.8, 0.9], True) + labelled(bench, [0.1, 0.4], False)
    found = calibrate(load_scope("similarity", encoder), examples, max_false_fire=0.0)
    assert found.threshold == pytest.approx(0.6)
    assert (found.hit_rate, found.false_fire_rate, found.in_scope, found.out_of_scope) == (1.0, 0.0, 2, 2)


def test_wrong_edit_on_an_in_scope_query_is_not_a_hit(encoder, bench):
    (example,) = labelled(bench, [0.9], True)
    wrong = LabelledQuery(example.query, example.candidates, frozenset({"another"}))
    found = calibrate(load_scope("similarity", encoder), [wrong, *labelled(bench, [0.1], False)])
    assert found.hit_rate == 0.0


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rates_are_refused(encoder, bench, rate):
    with pytest.raises(InputError, match="max_false_fire"):
        calibrate(load_scope("similarity", encoder), labelled(bench, [0.1], False), max_false_fire=rate)


def test_examples_without_an_out_of_scope_query_are_refused(encoder, bench):
    with pytest.raises(InputError, match="out of scope"):
        calibrate(load_scope("similarity", encoder), labelled(bench, [0.1], True))


@settings(max_examples=50, deadline=None)
@given(
    right=st.lists(st.floats(0, 0.99), max_size=20),
    wrong=st.lists(st.floats(0, 0.99), min_size=1, max_size=20),
    rate=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_false_fire_rate_is_kept_and_no_lower_threshold_would_keep_it(right, wrong, rate):
    bench, scope = Bench(), load_scope("similarity", HashedWords())
    found = calibrate(scope, labelled(bench, right, True) + labelled(bench, wrong, False), max_false_fire=rate)
    assert found.false_fire_rate <= rate
    missed = [score for score in right if score < found.threshold]
    # firing on a missed one as well would break the rate
    assert all(np.mean(np.array(wrong) >= score) > rate for score in missed)
