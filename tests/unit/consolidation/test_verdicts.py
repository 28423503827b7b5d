"""From figures to verdicts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.consolidation.verdicts import (
    Gate,
    GateLimits,
    Harm,
    Limits,
    Verdict,
    judge_harm,
    judge_level,
    overall,
)
from memedit.errors import ConfigError, InputError

LIMITS = Limits(warn=3.0, fail=8.0)


def harm_gate(value: float, low: float, high: float, p_value: float) -> Gate:
    harm = Harm(value, low, high, p_value, 100, "paired bootstrap")
    return judge_harm(
        "capability", harm, LIMITS, significance=0.05, candidate=1.0, base=2.0, unit="points", what="drops by"
    )


@pytest.mark.parametrize(
    ("value", "low", "high", "p_value", "verdict"),
    [
        (0.0, -2.0, 2.0, 1.0, Verdict.PASS),
        (-5.0, -9.0, -1.0, 0.01, Verdict.PASS),  # better than the base
        (1.0, 0.2, 1.8, 0.01, Verdict.PASS),  # shown, but surely within what is wished for
        (2.0, 0.5, 4.0, 0.02, Verdict.WARN),  # shown, perhaps beyond it
        (2.0, -1.0, 5.0, 0.3, Verdict.PASS),
        (5.0, -1.0, 7.0, 0.2, Verdict.WARN),
        (2.0, -6.0, 10.0, 0.6, Verdict.INCONCLUSIVE),  # too few probes to exclude 8
        (9.0, -1.0, 19.0, 0.09, Verdict.INCONCLUSIVE),
        (7.0, 2.0, 12.0, 0.01, Verdict.INCONCLUSIVE),  # shown, and may well be beyond 8
        (9.0, 3.0, 15.0, 0.01, Verdict.FAIL),
    ],
)
def test_harm_is_judged_by_size_and_certainty(
    value: float, low: float, high: float, p_value: float, verdict: Verdict
) -> None:
    gate = harm_gate(value, low, high, p_value)
    assert gate.verdict is verdict
    assert f"{value:+.2f} points" in gate.reason


@given(
    value=st.floats(-20, 20),
    below=st.floats(0, 10),
    above=st.floats(0, 10),
    p_value=st.floats(0, 1),
    more=st.floats(0, 20),
)
def test_more_harm_is_never_judged_milder(
    value: float, below: float, above: float, p_value: float, more: float
) -> None:
    order = [Verdict.PASS, Verdict.WARN, Verdict.INCONCLUSIVE, Verdict.FAIL]
    first = harm_gate(value, value - below, value + above, p_value)
    second = harm_gate(value + more, value + more - below, value + more + above, p_value)
    assert order.index(second.verdict) >= order.index(first.verdict)


def test_outputs_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(InputError, match="not finite"):
        harm_gate(float("nan"), 0.0, 1.0, 0.5)


def test_a_census_is_judged_by_its_share() -> None:
    limits = Limits(90.0, 50.0)

    def verdict(share: int) -> Verdict:
        held = [i < share for i in range(100)]
        return judge_level("efficacy", held, limits, base=[False] * 100, what="edits").verdict

    assert [verdict(n) for n in (100, 90, 89, 50, 49, 0)] == [
        Verdict.PASS,
        Verdict.PASS,
        Verdict.WARN,
        Verdict.WARN,
        Verdict.FAIL,
        Verdict.FAIL,
    ]
    skipped = judge_level("paraphrase", [], limits, base=None, what="stored paraphrases")
    assert skipped.verdict is Verdict.SKIPPED
    assert "no paraphrase probes" in skipped.reason


def test_the_gravest_gate_decides_and_says_why() -> None:
    gates = [
        Gate("a", Verdict.PASS, "fine"),
        Gate("b", Verdict.SKIPPED, "nothing there"),
        Gate("c", Verdict.WARN, "a little worse"),
    ]
    assert overall(gates) == (Verdict.WARN, ("c: a little worse",))
    assert overall([*gates, Gate("d", Verdict.INCONCLUSIVE, "few")])[0] is Verdict.INCONCLUSIVE
    assert overall([*gates, Gate("d", Verdict.INCONCLUSIVE, "few"), Gate("e", Verdict.FAIL, "bad")])[0] is Verdict.FAIL
    assert overall([gates[0], gates[1]]) == (Verdict.PASS, ())
    assert overall([gates[1]])[0] is Verdict.INCONCLUSIVE
    assert overall([])[0] is Verdict.INCONCLUSIVE


def test_limits_list_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        GateLimits(efficacy=Limits(50.0, 90.0), perplexity=Limits(5.0, 1.0), significance=0.0)
    assert len(caught.value.problems) == 3


def test_a_gate_survives_the_way_through_json() -> None:
    gate = harm_gate(9.0, 3.0, 15.0, 0.01)
    assert Gate.parse(gate.as_json()) == gate
