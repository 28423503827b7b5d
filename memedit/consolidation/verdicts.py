"""Gates on a candidate: from what was measured to a verdict with its reasons.

Measuring needs a model and data and is done above this room; here are only the rules, so that they can be read and
tested by themselves. Two kinds of gate exist:

* *level* gates look at every edit of the job (efficacy, paraphrase, canaries): a census, so its share stands as it is;
* *harm* gates look at samples of everything else (specificity, perplexity, capability): a paired test of candidate
  against base says how sure the harm is, and a sample too small to exclude a harm beyond what is allowed says nothing:
  INCONCLUSIVE.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from memedit.errors import ConfigError, InputError


class Verdict(StrEnum):
    """What a gate, or a whole candidate, comes to."""

    PASS = "PASS"
    WARN = "WARN"
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"
    """Not measured: there was nothing to measure with. Does not count towards the whole."""


_GRAVITY = (Verdict.SKIPPED, Verdict.PASS, Verdict.WARN, Verdict.INCONCLUSIVE, Verdict.FAIL)


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a gate begins to warn and where it fails; for level gates floors, for harm gates ceilings."""

    warn: float
    fail: float

    def as_json(self) -> dict[str, float]:
        """Return both by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Harm:
    """Candidate against base on the same probes, turned so that more is worse.

    ``value`` with its 95% interval in the gate's unit (percentage points, percent), ``p_value`` two-sided, ``n``
    probes; ``test`` names the paired test.
    """

    value: float
    low: float
    high: float
    p_value: float
    n: int
    test: str


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate's outcome. ``candidate`` and ``base`` are the plain figures in ``unit``, for people to read."""

    name: str
    verdict: Verdict
    reason: str
    n: int = 0
    candidate: float | None = None
    base: float | None = None
    unit: str = "%"
    p_value: float | None = None
    test: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return every field by name."""
        return {**asdict(self), "verdict": self.verdict.value}

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> "Gate":
        """Read what :meth:`as_json` wrote."""
        return cls(**{**fields, "verdict": Verdict(fields["verdict"])})


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The limits of all gates.

    Args:
        efficacy: share of the job's edits that the candidate answers by itself, in percent. Those it does not answer
            stay in the memory, so little is lost, but a job that few edits survive is not worth its harm.
        paraphrase: the same for the edits' stored paraphrases.
        specificity: prompts no edit is about whose greedy answer changes, in percent of the prompts.
        perplexity: rise of the perplexity of a text, in percent.
        collapse: rise of the mean perplexity of a sentence, in percent: a guard against single broken outputs.
        capability: drop of the share of questions answered rightly, in percentage points.
        canary: share of canaries that hold, in percent.
        significance: p-values below it count as shown.
    """

    efficacy: Limits = Limits(90.0, 50.0)
    paraphrase: Limits = Limits(70.0, 30.0)
    specificity: Limits = Limits(10.0, 25.0)
    perplexity: Limits = Limits(3.0, 10.0)
    capability: Limits = Limits(3.0, 8.0)
    collapse: Limits = Limits(20.0, 100.0)
    canary: Limits = Limits(100.0, 100.0)
    significance: float = 0.05

    def __post_init__(self) -> None:
        problems = []
        for name in ("efficacy", "paraphrase", "canary"):
            limits: Limits = getattr(self, name)
            if not 0 <= limits.fail <= limits.warn <= 100:
                problems.append(f"{name}: must satisfy 0 <= fail <= warn <= 100, got {limits.as_json()}")
        for name in ("specificity", "perplexity", "capability", "collapse"):
            limits = getattr(self, name)
            if not 0 <= limits.warn <= limits.fail:
                problems.append(f"{name}: must satisfy 0 <= warn <= fail, got {limits.as_json()}")
        if not 0 < self.significance < 1:
            problems.append(f"significance: must lie between 0 and 1, got {self.significance}")
        if problems:
            raise ConfigError(problems, "limits of the gates")


def judge_level(name: str, held: Sequence[bool], limits: Limits, *, base: Sequence[bool] | None, what: str) -> Gate:
    """Judge a share that should be high: FAIL below ``limits.fail``, WARN below ``limits.warn``.

    Args:
        name: of the gate.
        held: for each probe of the census whether the candidate does what is wanted.
        limits: floors in percent.
        base: the same of the untouched base, for people to read.
        what: what the share is of, for the reason ("edits answered by the weights").
    """
    if not held:
        return Gate(name, Verdict.SKIPPED, f"nothing to measure: there are no {name} probes")
    share = 100.0 * sum(held) / len(held)
    before = None if base is None else 100.0 * sum(base) / len(base)
    if share < limits.fail:
        verdict, words = Verdict.FAIL, f"below the {limits.fail:g}% at which it fails"
    elif share < limits.warn:
        verdict, words = Verdict.WARN, f"below the {limits.warn:g}% wished for"
    else:
        verdict, words = Verdict.PASS, f"at or above {limits.warn:g}%"
    return Gate(name, verdict, f"{sum(held)} of {len(held)} {what}, {words}", len(held), share, before)


def judge_harm(
    name: str, harm: Harm, limits: Limits, *, significance: float, candidate: float, base: float, unit: str, what: str
) -> Gate:
    """Judge a harm that should be low.

    FAIL when the harm is beyond ``limits.fail`` and significant; INCONCLUSIVE when the interval reaches beyond it and
    the harm is not significant, or not surely beyond it (more probes would tell); WARN when the harm is beyond
    ``limits.warn``, or significant; PASS otherwise.

    Raises:
        InputError: the harm is not a finite number.
    """
    if not all(map(math.isfinite, (harm.value, harm.low, harm.high, harm.p_value))):
        raise InputError(f"gate {name}: the harm {harm} is not finite; the candidate's outputs are broken")
    shown = harm.p_value < significance and harm.value > 0
    figures = f"{what} {harm.value:+.2f} {unit} [{harm.low:+.2f}, {harm.high:+.2f}], p = {harm.p_value:.2g}"
    if harm.value > limits.fail and shown:
        verdict, words = Verdict.FAIL, f"beyond the {limits.fail:g} allowed"
    elif harm.high > limits.fail:
        verdict = Verdict.INCONCLUSIVE
        words = f"{harm.n} probes cannot exclude a harm beyond the {limits.fail:g} allowed; give more of them"
    elif harm.value > limits.warn:
        verdict, words = Verdict.WARN, f"beyond the {limits.warn:g} wished for, within the {limits.fail:g} allowed"
    elif shown and harm.high > limits.warn:
        verdict, words = Verdict.WARN, f"shown, though within the {limits.warn:g} wished for"
    else:
        verdict, words = Verdict.PASS, f"within {limits.warn:g}"
    return Gate(
        name, verdict, f"{figures}: {words}", harm.n, candidate, base, unit=unit, p_value=harm.p_value, test=harm.test
    )


def overall(gates: Sequence[Gate]) -> tuple[Verdict, tuple[str, ...]]:
    """Return the gravest verdict of the gates and the reasons of all that did not pass.

    With nothing measured the whole is INCONCLUSIVE.
    """
    worst = max((gate.verdict for gate in gates), key=_GRAVITY.index, default=Verdict.SKIPPED)
    reasons = tuple(
        f"{gate.name}: {gate.reason}" for gate in gates if gate.verdict not in (Verdict.PASS, Verdict.SKIPPED)
    )
    if worst is Verdict.SKIPPED:
        return Verdict.INCONCLUSIVE, ("nothing was measured",)
    return worst, reasons
