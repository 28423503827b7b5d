"""Intervals and tests agree with their textbook forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.errors import InputError
from memedit.evaluation.metrics.statistics import auc, mcnemar, mean, paired_bootstrap, rate

SCORES = st.lists(st.integers(0, 8), min_size=1, max_size=30)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_rates_have_wilsons_interval(outcomes: list[bool]) -> None:
    found = rate(outcomes)
    n, p, z = len(outcomes), sum(outcomes) / len(outcomes), 1.959963984540054
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found.n == n
    assert found.value == pytest.approx(100 * p)
    assert found.ci_low == pytest.approx(100 * (centre - half) / (1 + z * z / n), abs=1e-6)
    assert found.ci_high == pytest.approx(100 * (centre + half) / (1 + z * z / n), abs=1e-6)


def test_a_mean_lies_in_its_interval_which_shrinks_with_n() -> None:
    rng = np.random.default_rng(1)
    small, large = (mean(list(rng.normal(5, 2, n)), seed=3) for n in (50, 5000))
    assert small.ci_low < small.value < small.ci_high
    assert large.ci_high - large.ci_low < (small.ci_high - small.ci_low) / 4
    assert large.ci_high - large.ci_low == pytest.approx(2 * 1.96 * 2 / math.sqrt(5000), rel=0.15)
    assert mean([3.0]) == mean([3.0], seed=9)
    assert (mean([3.0]).ci_low, mean([3.0]).ci_high) == (3, 3)


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    values = list(np.random.default_rng(0).normal(size=60))
    assert mean(values, seed=4) == mean(values, seed=4)
    assert mean(values, seed=4) != mean(values, seed=5)


def test_a_weighted_mean_weighs() -> None:
    assert mean([1.0, 4.0], weights=[2.0, 1.0]).value == pytest.approx(2.0)


@given(st.integers(0, 25), st.integers(0, 25), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_mcnemar_is_the_exact_binomial_test_on_the_changes(gained: int, lost: int, same: int) -> None:
    first = [False] * gained + [True] * lost + [True] * (same + 1)
    second = [True] * gained + [False] * lost + [True] * (same + 1)
    found = mcnemar(first, second)
    n, k = gained + lost, min(gained, lost)
    wanted = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert found.p_value == pytest.approx(wanted)
    assert found.difference == pytest.approx(100 * (gained - lost) / len(first))


def test_the_paired_bootstrap_sees_a_steady_gain_through_noise() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(50, 30, 300)
    second = first + rng.normal(2, 3, 300)
    assert paired_bootstrap(list(first), list(second)).p_value < 0.01
    assert paired_bootstrap(list(first), list(first)).p_value == 1.0


@given(SCORES, SCORES)
def test_auc_is_the_share_of_ordered_pairs(positives: list[int], negatives: list[int]) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    found = auc(positives, negatives)
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert found.ci_low <= found.value <= found.ci_high


def test_aucs_interval_is_delongs() -> None:
    # worked by hand: placements of positives 2/3, 1, 1, of negatives 1, 1, 2/3, so both sample variances are 1/27
    found = auc([2.5, 4, 5], [1, 2, 3])
    half = 1.959963984540054 * math.sqrt((1 / 27) / 3 + (1 / 27) / 3)
    assert found.value == pytest.approx(8 / 9)
    assert found.ci_low == pytest.approx(8 / 9 - half)


def test_a_perfect_auc_is_not_claimed_to_be_exact() -> None:
    assert auc([2] * 100, [1] * 300).ci_low == pytest.approx(0.97)


def test_nothing_measured_is_an_error() -> None:
    for call in (lambda: rate([]), lambda: mean([]), lambda: auc([], [1]), lambda: mcnemar([], [])):
        with pytest.raises(InputError):
            call()
    with pytest.raises(InputError, match="as many"):
        mcnemar([True], [True, False])
