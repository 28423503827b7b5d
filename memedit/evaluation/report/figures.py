"""The numbers behind the report's plots."""

from collections.abc import Sequence

from memedit.evaluation.answering import Firing
from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.metrics.statistics import rate
from memedit.evaluation.outcome import MethodRun
from memedit.evaluation.report.svg import Series
from memedit.evaluation.scoring import NAMES, Answered

BINS = 5
STEPS = 100


def quality_by_edits(runs: Sequence[MethodRun], metric: str) -> list[Series]:
    """Return a line for each method: the metric against the number of edits in the stream."""
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for run in runs:
        estimate = run.row.metrics.get(metric)
        if estimate is not None:
            point = (run.row.edits, estimate.value, estimate.ci_low, estimate.ci_high)
            lines.setdefault(run.row.method, []).append(point)
    return [
        Series(name, tuple((x, y) for x, y, _, _ in sorted(points)), tuple((a, b) for _, _, a, b in sorted(points)))
        for name, points in lines.items()
    ]


def quality_by_position(run: MethodRun, metric: str) -> Series | None:
    """Return a metric against the place of the edits in the stream, in ``BINS`` bins; None without observations."""
    values = run.observations.values.get(metric, {})
    positions = {item.asked.index: item.asked.position for item in run.answered}
    bins: list[list[float]] = [[] for _ in range(BINS)]
    for key, value in values.items():
        bins[min(BINS - 1, int(positions.get(key, 0.0) * BINS))].append(100.0 * value)
    points, intervals = [], []
    for i, found in enumerate(bins):
        if found:
            middle = run.row.edits * (i + 0.5) / BINS
            points.append((middle, sum(found) / len(found)))
            estimate = rate([value >= 50 for value in found])
            intervals.append((estimate.ci_low, estimate.ci_high))
    return Series(run.row.method, tuple(points), tuple(intervals)) if points else None


def threshold_curves(run: MethodRun) -> list[Series]:
    """Return how a method's routing would fare at other thresholds, from the scores of the edits it considered.

    One line each, in percent: prompts of edits, and of paraphrases, on which the right edit reaches the threshold;
    unrelated prompts, and prompts about the same subject, on which no edit does. Empty for methods without scores.
    """
    kinds: dict[str, list[Answered]] = {}
    for item in run.answered:
        kind = item.asked.probe.kind
        if kind in NAMES or (kind in (ProbeKind.LOCALITY, ProbeKind.SPECIFICITY) and not item.asked.touched):
            kinds.setdefault(_LINES[kind], []).append(item)
    if not run.thresholded or not any(item.result.considered for item in run.answered):
        return []
    lines = []
    for name, items in kinds.items():
        points = []
        for step in range(STEPS + 1):
            threshold = step / STEPS
            good = sum(_good_at(item, threshold) for item in items)
            points.append((threshold, 100.0 * good / len(items)))
        lines.append(Series(f"{name} (n={len(items)})", tuple(points)))
    return lines


_LINES = {
    ProbeKind.EDIT: "edit prompts hit",
    ProbeKind.PARAPHRASE: "paraphrases hit",
    ProbeKind.LOCALITY: "unrelated prompts left alone",
    ProbeKind.SPECIFICITY: "same subject, other relation, left alone",
}


def _good_at(item: Answered, threshold: float) -> bool:
    if item.asked.probe.kind in NAMES:
        return right_score(item.result.considered, item.asked.own) >= threshold
    return top_score(item.result.considered) < threshold


def right_score(considered: Sequence[Firing], own: frozenset[int]) -> float:
    """Return the best score of the right edits, -1 where none was considered."""
    return max((firing.score for firing in considered if firing.edit in own), default=-1.0)


def top_score(considered: Sequence[Firing]) -> float:
    """Return the best score of any edit, -1 where none was considered."""
    return max((firing.score for firing in considered), default=-1.0)
