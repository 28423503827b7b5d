"""Choosing a threshold from labelled queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memedit.errors import InputError
from memedit.scope.base import Scope
from memedit.types import Candidate, Encoding

_HIGHEST = 1.0


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query with its candidates and the ids of the edits it falls under (none: it must stay untouched)."""

    query: Encoding
    candidates: tuple[Candidate, ...]
    in_scope: frozenset[str]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A chosen threshold and what it does on the examples it was chosen on.

    ``hit_rate``: share of in-scope queries whose best fired edit is a right one (NaN without such queries).
    ``false_fire_rate``: share of out-of-scope queries on which any edit fires.
    """

    threshold: float
    hit_rate: float
    false_fire_rate: float
    in_scope: int
    out_of_scope: int


def calibrate(scope: Scope, examples: Sequence[LabelledQuery], *, max_false_fire: float = 0.005) -> Calibration:
    """Choose the lowest threshold at which at most ``max_false_fire`` of the out-of-scope queries fire.

    Between the highest out-of-scope score that must stay silent and the next in-scope score above it the threshold is
    put in the middle. It is returned, not set: give it to ``load_scope(..., threshold=...)`` or ``decide``.

    Raises:
        InputError: no out-of-scope example, or ``max_false_fire`` outside [0, 1).
    """
    if not 0.0 <= max_false_fire < 1.0:
        raise InputError(f"max_false_fire is {max_false_fire}; give a share in [0, 1), for example 0.005")
    right, wrong = _best_scores(scope, examples)
    if wrong.size == 0:
        raise InputError(
            f"none of the {len(examples)} examples is out of scope; add queries that no edit should fire on "
            "(an empty list of edit ids)"
        )
    threshold = _lowest_threshold(right, wrong, max_false_fire)
    return Calibration(
        threshold=threshold,
        hit_rate=float(np.mean(right >= threshold)) if right.size else float("nan"),
        false_fire_rate=float(np.mean(wrong >= threshold)),
        in_scope=int(right.size),
        out_of_scope=int(wrong.size),
    )


def _best_scores(scope: Scope, examples: Sequence[LabelledQuery]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of right edits that win their query, and the best scores of out-of-scope queries."""
    decisions = scope.decide([e.query for e in examples], [e.candidates for e in examples], threshold=0.0)
    right: list[float] = []
    wrong: list[float] = []
    for example, decision in zip(examples, decisions, strict=True):
        best = decision.fired[0] if decision.fired else None
        if not example.in_scope:
            wrong.append(best.score if best else 0.0)
        else:
            right.append(best.score if best and best.edit.id in example.in_scope else -1.0)
    return np.array(right), np.array(wrong)


def _lowest_threshold(right: np.ndarray, wrong: np.ndarray, max_false_fire: float) -> float:
    allowed = int(np.floor(max_false_fire * wrong.size))
    silent = float(np.sort(wrong)[::-1][allowed])  # the highest score that must not fire
    above = right[right > silent]
    ceiling = float(above.min()) if above.size else _HIGHEST
    middle = (silent + ceiling) / 2
    # a score of exactly 1 belongs to verbatim prompts, which always fire
    return float(min(max(middle, np.nextafter(silent, 2.0)), _HIGHEST))
