"""How a head does on rows it was not fitted on: calibration, threshold, and the figures of the report."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memedit.scope.classifier.cross_encoder import CrossEncoder, is_close, masked_pair, moved
from memedit.scope.classifier.head import Weights, head_logits
from memedit.scope.classifier.model import calibrated
from memedit.scope.text import normalise
from memedit.types import FloatArray
from memedit.workflows.scope_training.attributes import MADE
from memedit.workflows.scope_training.examples import Found, SimulatedMemory
from memedit.workflows.scope_training.rows import EditRow

KEPT = {"locality": 0.997, "specificity": 0.975}
"""Share of out-of-scope queries of each kind that a threshold must leave alone."""
BALANCED = {"locality": 0.996, "specificity": 0.99, MADE: 0.87}
"""The same of the balance, once what stands above the head has changed where errors lie.

Of questions about another relation those of made edits, over relations that were held back, count apart: they are from
families of relations that are easily confused.
"""
_LOWEST, _HIGHEST = 0.2, 0.9
_LOSSES = (0.0, 1.0, 2.0, 3.0, 4.0)
"""What a logit may lose when the subject is known but does not stand in the query."""
_MOST = 4.0
"""The most that :func:`balance` moves a logit by."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best of some candidates: its logit (-inf when there are none), and whether it is the right edit."""

    logit: float
    right: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The head's view of one probe of a row.

    ``standing``: the best candidate whose subject stands in the query, or that has none; ``absent``: the best of the
    others. Right is the row itself, or one with the same prompt. ``touched``: the subject of another edit stands in a
    locality prompt, so that prompt is not out of scope.
    """

    source: str
    kind: str
    inside: bool
    standing: Best
    absent: Best
    touched: bool
    cosine: float
    cosine_with_subject: float

    def best(self, loss: float) -> Best:
        """Return the best candidate when logits lose ``loss`` where the subject does not stand in the query."""
        lessened = Best(self.absent.logit - loss, self.absent.right)
        return max(self.standing, lessened, key=lambda best: best.logit)


@dataclass(frozen=True, slots=True)
class SecondLook:
    """The cross-encoder, and the logit at the threshold, near which it is asked."""

    cross: CrossEncoder
    undecided: float

    def __call__(
        self, text: str, found: Sequence[Found], rows: Sequence[EditRow], logits: FloatArray, features: FloatArray
    ) -> FloatArray:
        """Return the candidates' logits ``[c]``, those of close calls moved."""
        close = np.flatnonzero(is_close(logits, features, self.undecided))
        pairs = [
            masked_pair(text, item.span or (0, 0), rows[item.row].prompt, rows[item.row].subject or "")
            for item in (found[at] for at in close.tolist())
        ]
        after = logits.copy()
        after[close] = moved(logits[close], self.cross.logits(pairs))
        return after


def judge_rows(
    head: Weights,
    memory: SimulatedMemory,
    rows: Sequence[EditRow],
    numbers: Sequence[int],
    again: SecondLook | None = None,
) -> list[Outcome]:
    """Judge all probes of the rows ``numbers`` with all ``rows`` in memory, close calls ``again``."""

    def logits_of(text: str, found: Sequence[Found]) -> FloatArray:
        query, edits, comparison = memory.compare(text, found)
        logits = head_logits(head, query, edits, comparison)
        if again is None or memory.is_long(text):
            return logits
        return again(text, found, rows, logits, comparison.features)

    outcomes = []
    for number in numbers:
        row = rows[number]
        probes = [(kind, text, True) for kind, text in row.inside] + [(kind, text, False) for kind, text in row.outside]
        outcomes += [_judge(logits_of, memory, rows, number, probe) for probe in probes]
    return outcomes


def _judge(
    logits_of: Callable[[str, Sequence[Found]], FloatArray],
    memory: SimulatedMemory,
    rows: Sequence[EditRow],
    number: int,
    probe: tuple[str, str, bool],
) -> Outcome:
    kind, text, inside = probe
    found = memory.candidates(text)
    logits = logits_of(text, found)
    same = [normalise(rows[item.row].prompt) == normalise(rows[number].prompt) for item in found]
    subject = normalise(rows[number].subject or "")
    # another edit of the same subject is not wrong on a question about that subject; only this row is judged then
    rivals = kind in {"specificity", "forgetfulness"}
    judged = [
        i for i, item in enumerate(found) if not rivals or same[i] or normalise(rows[item.row].subject or "") != subject
    ]
    away = {i for i in judged if rows[found[i].row].subject and found[i].span is None}
    return Outcome(
        source=rows[number].source,
        kind=kind,
        inside=inside,
        standing=_best(logits, same, [i for i in judged if i not in away]),
        absent=_best(logits, same, sorted(away)),
        touched=kind == "locality" and any(item.span is not None for item in found),
        cosine=max((found[i].similarity for i in judged), default=-1.0),
        cosine_with_subject=max((found[i].similarity + (found[i].span is not None) for i in judged), default=-1.0),
    )


def _best(logits: FloatArray, same: Sequence[bool], chosen: Sequence[int]) -> Best:
    at = max(chosen, key=lambda i: logits[i], default=None)
    return Best(float("-inf"), False) if at is None else Best(float(logits[at]), same[at])


def platt(logits: FloatArray, labels: FloatArray) -> FloatArray:
    """Return slope and offset of a logistic regression on the logits (Platt, 1999), by Newton's method."""
    # logits far apart would make the first step overshoot into where all weights vanish
    scale = max(float(np.abs(logits).max(initial=0.0)) / 4, 1.0)
    design = np.stack([logits / scale, np.ones_like(logits)], axis=1).astype(np.float64)
    positive, negative = float(labels.sum()), float((1 - labels).sum())
    # Platt's targets keep separable data from an infinite slope
    targets = np.where(labels > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))
    weights = np.array([1.0, 0.0])
    for _ in range(100):
        predicted = 1 / (1 + np.exp(-(design @ weights)))
        gradient = design.T @ (predicted - targets) + 1e-6 * weights
        hessian = design.T @ (design * (predicted * (1 - predicted))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 1.0 / float(np.abs(step).max() + 1e-12))
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return np.array([weights[0] / scale, weights[1]], np.float32)


def calibrate_outcomes(outcomes: Sequence[Outcome]) -> tuple[FloatArray, float]:
    """Return calibration (slope, offset, loss of an absent subject) and threshold.

    Of a few losses the one is taken with which the most in-scope queries fire, averaged over files and kinds, at the
    threshold that keeps the shares of :data:`KEPT` silent. Prompts that another edit touches are left out.
    """
    used = [o for o in outcomes if not o.touched]
    tried = []
    for loss in _LOSSES:
        best = [o.best(loss) for o in used]
        some = [np.isfinite(b.logit) for b in best]
        logits = np.array([b.logit for b, finite in zip(best, some, strict=True) if finite])
        labels = [float(o.inside and b.right) for o, b, finite in zip(used, best, some, strict=True) if finite]
        calibration = np.append(platt(logits, np.array(labels)), np.float32(loss)).astype(np.float32)
        threshold = choose_threshold(used, calibration)
        tried.append((_mean_hits(used, calibration, threshold), -loss, calibration, threshold))
    _, _, calibration, threshold = max(tried, key=lambda item: item[:2])
    return calibration, threshold


def _mean_hits(outcomes: Sequence[Outcome], calibration: FloatArray, threshold: float) -> float:
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.inside:
            fires = score(outcome, calibration) >= threshold and outcome.best(float(calibration[2])).right
            groups[outcome.source, outcome.kind].append(fires)
    return float(np.mean([np.mean(fires) for fires in groups.values()])) if groups else 0.0


def choose_threshold(outcomes: Sequence[Outcome], calibration: FloatArray) -> float:
    """Return the lowest threshold that keeps the shares of :data:`KEPT` of every kind silent, in [0.2, 0.9]."""
    needed = _LOWEST
    for kind, share in KEPT.items():
        scores = np.sort([score(o, calibration) for o in outcomes if o.kind == kind and not o.touched])
        if scores.size:
            allowed = int((1 - share) * scores.size)
            needed = max(needed, float(scores[-1 - allowed]) + 1e-4)
    return round(min(needed, _HIGHEST), 4)


def balance(outcomes: Sequence[Outcome], undecided: float, loss: float) -> tuple[float, float]:
    """Return what logits gain where the edit's subject stands in the query, and what they lose where it does not.

    The two err on different questions: on another relation of the same subject the one, on a name like the subject's
    the other. So each gets as much room as leaves the shares of :data:`BALANCED` silent: the first of specificity
    prompts, of files and of made edits alike, the second of locality prompts of files. ``undecided`` is the logit at
    the threshold. Without specificity prompts nothing is gained, without locality prompts ``loss`` stays.
    """
    other = [o for o in outcomes if o.kind == "specificity"]
    files, made = ([o.standing.logit for o in other if (o.source == MADE) == kind] for kind in (False, True))
    rooms = [undecided - _silent_up_to(files, BALANCED["specificity"])] if files else []
    rooms += [undecided - _silent_up_to(made, BALANCED[MADE])] if made else []
    absent = [o.absent.logit for o in outcomes if o.kind == "locality" and not o.touched and o.source != MADE]
    gain = min(rooms, default=0.0)
    lost = _silent_up_to(absent, BALANCED["locality"]) - undecided if absent else loss
    return float(np.clip(gain, -_MOST, _MOST)), float(np.clip(lost, 0.0, _MOST))


def _silent_up_to(logits: Sequence[float], share: float) -> float:
    """Return the logit just above all but so many that ``share`` of them lie below it."""
    return float(np.sort(logits)[-1 - int((1 - share) * len(logits))]) + 1e-4


def score(outcome: Outcome, calibration: FloatArray) -> float:
    """Return the calibrated probability of the best candidate."""
    slope, offset, loss = calibration.tolist()
    return calibrated(outcome.best(loss).logit, slope, offset)


def auc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """Return the probability that an inside value exceeds an outside one (ties count half); NaN without both."""
    if not inside or not outside:
        return float("nan")
    values = np.sort(np.asarray(outside))
    below, up_to = (np.searchsorted(values, np.asarray(inside), side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(values))


def report(outcomes: Sequence[Outcome], calibration: FloatArray, threshold: float) -> dict[str, Any]:
    """Return rates by source and kind, in percent, and AUCs of the classifier beside cosine and cosine + subject."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.source, outcome.kind + (" (touched)" if outcome.touched else "")].append(outcome)
    rates = {f"{source}/{kind}": _rate(items, calibration, threshold) for (source, kind), items in groups.items()}
    return {"threshold": threshold, "rates": rates, "auc": _aucs(groups, float(calibration[2]))}


def _rate(items: Sequence[Outcome], calibration: FloatArray, threshold: float) -> dict[str, float | int | str]:
    fires = [score(o, calibration) >= threshold for o in items]
    if items[0].inside:
        loss = float(calibration[2])
        share = np.mean([fired and o.best(loss).right for fired, o in zip(fires, items, strict=True)])
        return {"what": "right edit fires", "percent": round(100 * float(share), 2), "n": len(items)}
    return {"what": "silent", "percent": round(100 - 100 * float(np.mean(fires)), 2), "n": len(items)}


def _aucs(groups: Mapping[tuple[str, str], Sequence[Outcome]], loss: float) -> dict[str, dict[str, float]]:
    """Compare paraphrases (of their file, else of the largest file) with each kind of out-of-scope query."""
    paraphrases = {source: items for (source, kind), items in groups.items() if kind == "paraphrase"}
    largest = max(paraphrases.values(), key=len, default=[])
    found = {}
    for (source, kind), items in groups.items():
        if items[0].inside or items[0].touched:
            continue
        inside = paraphrases.get(source, largest)
        found[f"{source}/{kind}"] = {
            "classifier": auc([_right_logit(o, loss) for o in inside], [o.best(loss).logit for o in items]),
            "cosine": auc([o.cosine for o in inside], [o.cosine for o in items]),
            "cosine+subject": auc([o.cosine_with_subject for o in inside], [o.cosine_with_subject for o in items]),
        }
    return {name: {k: round(v, 5) for k, v in values.items()} for name, values in found.items()}


def _right_logit(outcome: Outcome, loss: float) -> float:
    """Return the best logit if it is the right edit's: a wrong edit that fires is no hit."""
    best = outcome.best(loss)
    return best.logit if best.right else -1e9
