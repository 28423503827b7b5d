"""How a head does on rows it was not fitted on: calibration, threshold, and the figures of the report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memedit.scope.classifier.head import Weights, head_logits
from memedit.scope.text import normalise
from memedit.types import FloatArray
from memedit.workflows.scope_training.examples import SimulatedMemory
from memedit.workflows.scope_training.rows import EditRow

KEPT = {"locality": 0.997, "specificity": 0.975}
"""Share of out-of-scope queries of each kind that a threshold must leave alone."""
_LOWEST, _HIGHEST = 0.2, 0.9


@dataclass(frozen=True, slots=True)
class Outcome:
    """The head's view of one probe of a row.

    ``own`` is the logit of the row itself (NaN when it was no candidate), ``best`` the best logit of all candidates
    (-inf without any), ``right`` whether that is the row itself or one with the same prompt. ``touched``: the subject
    of another edit stands in a locality prompt, so that prompt is not out of scope.
    """

    source: str
    kind: str
    inside: bool
    own: float
    best: float
    right: bool
    touched: bool
    cosine: float
    cosine_with_subject: float


def judge_rows(
    head: Weights, memory: SimulatedMemory, rows: Sequence[EditRow], numbers: Sequence[int]
) -> list[Outcome]:
    """Judge all probes of the rows ``numbers`` with all ``rows`` in memory."""
    outcomes = []
    for number in numbers:
        row = rows[number]
        probes = [(kind, text, True) for kind, text in row.inside] + [(kind, text, False) for kind, text in row.outside]
        outcomes += [_judge(head, memory, rows, number, probe) for probe in probes]
    return outcomes


def _judge(
    head: Weights, memory: SimulatedMemory, rows: Sequence[EditRow], number: int, probe: tuple[str, str, bool]
) -> Outcome:
    kind, text, inside = probe
    found = memory.candidates(text)
    query, edits, comparison = memory.compare(text, found)
    logits = head_logits(head, query, edits, comparison)
    same = [normalise(rows[item.row].prompt) == normalise(rows[number].prompt) for item in found]
    subject = normalise(rows[number].subject or "")
    own = [float(logit) for logit, here in zip(logits, same, strict=True) if here]
    # another edit of the same subject is not wrong on a question about that subject; only this row is judged then
    rivals = kind in {"specificity", "forgetfulness"}
    judged = [
        i for i, item in enumerate(found) if not rivals or same[i] or normalise(rows[item.row].subject or "") != subject
    ]
    best = max(judged, key=lambda i: logits[i], default=None)
    return Outcome(
        source=rows[number].source,
        kind=kind,
        inside=inside,
        own=max(own, default=float("nan")),
        best=float(logits[best]) if best is not None else float("-inf"),
        right=best is not None and same[best],
        touched=kind == "locality" and any(item.span is not None for item in found),
        cosine=max((found[i].similarity for i in judged), default=-1.0),
        cosine_with_subject=max((found[i].similarity + (found[i].span is not None) for i in judged), default=-1.0),
    )


def platt(logits: FloatArray, labels: FloatArray) -> FloatArray:
    """Return slope and offset of a logistic regression on the logits (Platt, 1999), by Newton's method."""
    design = np.stack([logits, np.ones_like(logits)], axis=1).astype(np.float64)
    positive, negative = float(labels.sum()), float((1 - labels).sum())
    # Platt's targets keep separable data from an infinite slope
    targets = np.where(labels > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (predicted - targets) + 1e-6 * weights
        hessian = design.T @ (design * (predicted * (1 - predicted))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return weights.astype(np.float32)


def calibrate_outcomes(outcomes: Sequence[Outcome]) -> FloatArray:
    """Fit probabilities to the best candidate of each query; prompts that another edit touches are left out."""
    used = [o for o in outcomes if not o.touched and np.isfinite(o.best)]
    labels = np.array([float(o.inside and o.right) for o in used])
    return platt(np.array([o.best for o in used]), labels)


def choose_threshold(outcomes: Sequence[Outcome], calibration: FloatArray) -> float:
    """Return the lowest threshold that keeps the shares of :data:`KEPT` of every kind silent, in [0.2, 0.9]."""
    needed = _LOWEST
    for kind, share in KEPT.items():
        scores = np.sort([score(o.best, calibration) for o in outcomes if o.kind == kind and not o.touched])
        if scores.size:
            allowed = int((1 - share) * scores.size)
            needed = max(needed, float(scores[-1 - allowed]) + 1e-4)
    return round(min(needed, _HIGHEST), 4)


def score(logit: float, calibration: FloatArray) -> float:
    """Return the calibrated probability of a logit."""
    return float(1 / (1 + np.exp(-np.clip(calibration[0] * logit + calibration[1], -30, 30))))


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
    return {"threshold": threshold, "rates": rates, "auc": _aucs(groups)}


def _rate(items: Sequence[Outcome], calibration: FloatArray, threshold: float) -> dict[str, float | int | str]:
    fires = [score(o.best, calibration) >= threshold for o in items]
    if items[0].inside:
        share = np.mean([fired and o.right for fired, o in zip(fires, items, strict=True)])
        return {"what": "right edit fires", "percent": round(100 * float(share), 2), "n": len(items)}
    return {"what": "silent", "percent": round(100 - 100 * float(np.mean(fires)), 2), "n": len(items)}


def _aucs(groups: Mapping[tuple[str, str], Sequence[Outcome]]) -> dict[str, dict[str, float]]:
    """Compare paraphrases (of their file, else of the largest file) with each kind of out-of-scope query."""
    paraphrases = {source: items for (source, kind), items in groups.items() if kind == "paraphrase"}
    largest = max(paraphrases.values(), key=len, default=[])
    found = {}
    for (source, kind), items in groups.items():
        if items[0].inside or items[0].touched:
            continue
        inside = paraphrases.get(source, largest)
        found[f"{source}/{kind}"] = {
            "classifier": auc([o.best if o.right else -1e9 for o in inside], [o.best for o in items]),
            "cosine": auc([o.cosine for o in inside], [o.cosine for o in items]),
            "cosine+subject": auc([o.cosine_with_subject for o in inside], [o.cosine_with_subject for o in items]),
        }
    return {name: {k: round(v, 5) for k, v in values.items()} for name, values in found.items()}
