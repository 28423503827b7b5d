"""Intervals and paired tests. All are deterministic; what resamples takes a seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memedit.errors import InputError

_Z95 = 1.959963984540054
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval; ``n`` is the number of observations behind it."""

    value: float
    n: int
    ci_low: float
    ci_high: float

    def as_json(self) -> dict[str, float | int]:
        """Return the form of ``results.json``; six decimals, so that the last bits of a sum do not matter."""
        numbers = {"value": self.value, "ci_low": self.ci_low, "ci_high": self.ci_high}
        rounded = {key: round(number, 6) + 0.0 for key, number in numbers.items()}
        return {"value": rounded["value"], "n": self.n, "ci_low": rounded["ci_low"], "ci_high": rounded["ci_high"]}


def rate(successes: Sequence[bool]) -> Estimate:
    """Return a share in percent with Wilson's interval (Wilson 1927), from scipy.

    Raises:
        InputError: there are no observations.
    """
    n = len(successes)
    if n == 0:
        raise InputError("no observations: a rate needs at least one")
    from scipy.stats import binomtest

    ends = binomtest(sum(successes), n).proportion_ci(0.95, method="wilson")
    return Estimate(100 * sum(successes) / n, n, 100 * float(ends.low), 100 * float(ends.high))


def mean(values: Sequence[float], *, seed: int = 0, weights: Sequence[float] | None = None) -> Estimate:
    """Return a mean with the percentile bootstrap's interval (Efron 1979), ``RESAMPLES`` resamples.

    With ``weights`` the mean is weighted, and rows are resampled together with their weight. One observation alone
    gives an interval of no width.

    Raises:
        InputError: there are no observations, or the weights sum to nothing.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise InputError("no observations: a mean needs at least one")
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.sum() <= 0:
        raise InputError("the weights of a mean must sum to more than nothing")
    value = float((x * w).sum() / w.sum())
    if x.size == 1 or np.ptp(x) == 0:
        return Estimate(value, int(x.size), value, value)
    means = _resampled(x, w, np.random.default_rng(seed))
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(value, int(x.size), float(low), float(high))


def _resampled(x: NDArray[np.float64], w: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    means = np.empty(RESAMPLES)
    block = max(1, 4_000_000 // x.size)  # rows of indices held at once
    for start in range(0, RESAMPLES, block):
        rows = rng.integers(0, x.size, size=(min(block, RESAMPLES - start), x.size))
        weight = w[rows]
        means[start : start + len(rows)] = (x[rows] * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300)
    return means


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two methods on the same observations: ``difference`` is second minus first, ``p_value`` two-sided."""

    test: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p_value: float


def mcnemar(first: Sequence[bool], second: Sequence[bool], *, seed: int = 0) -> PairedTest:
    """Compare two rates on the same probes by McNemar's exact test; the difference is in percentage points.

    Raises:
        InputError: the lengths differ or are zero.
    """
    _check_pairs(first, second)
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    change = mean([100.0 * (b - a) for a, b in zip(first, second, strict=True)], seed=seed)
    return PairedTest("mcnemar", len(first), change.value, change.ci_low, change.ci_high, _binomial(gained, lost))


def paired_bootstrap(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare two means on the same probes by the paired bootstrap.

    The p-value is twice the share of resampled mean differences on the far side of zero, with one added to both
    counts so that it is never zero.

    Raises:
        InputError: the lengths differ or are zero.
    """
    _check_pairs(first, second)
    x = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if x.size == 1 or np.ptp(x) == 0:
        value = float(x.mean())
        return PairedTest("paired bootstrap", int(x.size), value, value, value, 1.0)
    means = _resampled(x, np.ones_like(x), np.random.default_rng(seed))
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))
    return PairedTest("paired bootstrap", int(x.size), float(x.mean()), float(low), float(high), p_value)


def _check_pairs(first: Sequence[object], second: Sequence[object]) -> None:
    if len(first) != len(second) or not first:
        raise InputError(f"a paired test needs as many observations of both, at least one; {len(first)}, {len(second)}")


def _binomial(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value of ``gained`` among ``gained + lost`` fair coins."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def auc(positives: Sequence[float], negatives: Sequence[float]) -> Estimate:
    """Return the area under the ROC curve (ties count half) with DeLong's interval, in [0, 1]; n counts both classes.

    DeLong et al. 1988, by placement values. At an area of 1 (or 0) the variance is zero; the interval then comes from
    the rule of three on the smaller class, so that it is not falsely exact.

    Raises:
        InputError: one of the classes is empty.
    """
    pos, neg = np.sort(np.asarray(positives, dtype=np.float64)), np.sort(np.asarray(negatives, dtype=np.float64))
    if pos.size == 0 or neg.size == 0:
        raise InputError(f"an AUC needs both classes; got {pos.size} positives and {neg.size} negatives")
    below = (np.searchsorted(neg, pos, "left") + np.searchsorted(neg, pos, "right")) / (2 * neg.size)
    above = 1 - (np.searchsorted(pos, neg, "left") + np.searchsorted(pos, neg, "right")) / (2 * pos.size)
    value = float(below.mean())
    variance = _variance(below) / pos.size + _variance(above) / neg.size
    half = _Z95 * math.sqrt(variance) if variance > 0 else min(1.0, 3 / min(pos.size, neg.size))
    return Estimate(value, int(pos.size + neg.size), max(0.0, value - half), min(1.0, value + half))


def _variance(x: NDArray[np.float64]) -> float:
    return float(x.var(ddof=1)) if x.size > 1 else 0.0


def spearman(x: Sequence[float], y: Sequence[float], *, seed: int = 0) -> Estimate | None:
    """Return Spearman's rank correlation, in [-1, 1], with the percentile bootstrap's interval.

    None where one of the two is constant (or there are fewer than three pairs): a correlation is not defined.

    Raises:
        InputError: the lengths differ.
    """
    from scipy.stats import rankdata, spearmanr

    if len(x) != len(y):
        raise InputError(f"a correlation needs pairs; got {len(x)} and {len(y)} values")
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rows = np.random.default_rng(seed).integers(0, a.size, size=(RESAMPLES, a.size))
    u, v = (rankdata(values[rows], axis=1) for values in (a, b))
    u, v = u - u.mean(1, keepdims=True), v - v.mean(1, keepdims=True)
    scale = np.sqrt((u * u).sum(1) * (v * v).sum(1))
    defined = scale > 0  # a resample can happen to be constant
    found = (u * v).sum(1)[defined] / scale[defined]
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(float(spearmanr(a, b).statistic), int(a.size), float(low), float(high))


def paired_ratio(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare two positive means on the same observations by the paired bootstrap of their ratio.

    The difference and its interval are in percent: ``100 * (mean(second) / mean(first) - 1)``. The p-value is as in
    :func:`paired_bootstrap`.

    Raises:
        InputError: the lengths differ or are zero, or ``first`` is not positive.
    """
    _check_pairs(first, second)
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not (a > 0).all():
        raise InputError("a ratio of means needs positive values of the first")
    value = float(100.0 * (b.mean() / a.mean() - 1.0))
    if a.size == 1 or bool((a == b).all()):
        return PairedTest("paired bootstrap of a ratio", int(a.size), value, value, value, 1.0)
    rows = np.random.default_rng(seed).integers(0, a.size, size=(RESAMPLES, a.size))
    changes = 100.0 * (b[rows].mean(1) / a[rows].mean(1) - 1.0)
    low, high = np.percentile(changes, [2.5, 97.5])
    tail = min(int((changes <= 0).sum()), int((changes >= 0).sum()))
    p_value = min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))
    return PairedTest("paired bootstrap of a ratio", int(a.size), value, float(low), float(high), p_value)
