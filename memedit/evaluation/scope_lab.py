"""What a scope's threshold trades: missed paraphrases against disturbed strangers, with the hard set apart.

Scores only; no language model is needed. Queries fall into groups: those that an edit must fire on (its prompt,
paraphrases, the subject under another name) and those that none may fire on: *strangers* (locality prompts that no
stored edit touches) and the *hard* set (the subject of an edit, another relation).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.metrics.statistics import auc, rate

HITS = {ProbeKind.EDIT: "edit", ProbeKind.PARAPHRASE: "paraphrase", ProbeKind.ALIAS: "alias"}
REJECTS = {ProbeKind.LOCALITY: "stranger", ProbeKind.SPECIFICITY: "hard"}
STEPS = 200


@dataclass(frozen=True, slots=True)
class ScopeScores:
    """Scores of one scope on one data set, by group.

    Of a query that an edit must fire on, the right edit's score where it wins the query, else -1: no threshold makes
    it fire. Of a query that none may fire on, the best score of any edit, -1 where none is near. ``detected``: of
    queries that an edit must fire on, too, the best score of any edit.
    """

    dataset: str
    scope: str
    threshold: float
    edits: int
    groups: Mapping[str, Sequence[float]]
    detected: Mapping[str, Sequence[float]]

    def hits(self) -> Sequence[float]:
        """Return the scores of paraphrases; of aliases and edit prompts where the data has no paraphrases."""
        return next((self.groups[g] for g in ("paraphrase", "alias", "edit") if self.groups.get(g)), ())

    def hit_group(self) -> str:
        """Return which group :meth:`hits` takes."""
        return next((g for g in ("paraphrase", "alias", "edit") if self.groups.get(g)), "none")


def pooled(scores: Sequence[ScopeScores]) -> ScopeScores:
    """Return the scores of one scope on all data sets together."""
    first, edits = scores[0], sum(s.edits for s in scores)
    groups, detected = _joined([s.groups for s in scores]), _joined([s.detected for s in scores])
    return ScopeScores("all", first.scope, first.threshold, edits, groups, detected)


def _joined(parts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for part in parts:
        for group, values in part.items():
            groups.setdefault(group, []).extend(values)
    return groups


def summary(scores: ScopeScores) -> dict[str, Any]:
    """Return AUCs, rates at the scope's own threshold, and the curve over all thresholds, as JSON.

    Each AUC stands there twice: a query on which a wrong edit wins is a miss, or (``any_edit``) is found all the same.
    """
    areas, asked = {}, scores.hit_group()
    for group in REJECTS.values():
        if scores.hits() and scores.groups.get(group):
            areas[f"{asked}_vs_{group}"] = auc(scores.hits(), scores.groups[group]).as_json()
            areas[f"{asked}_vs_{group}.any_edit"] = auc(scores.detected[asked], scores.groups[group]).as_json()
    at_threshold = {}
    for group, values in scores.groups.items():
        fires = [value >= scores.threshold for value in values]
        if group in REJECTS.values():
            at_threshold[f"{group}.disturbed"] = rate(fires).as_json()
        else:
            at_threshold[f"{group}.missed"] = rate([not fired for fired in fires]).as_json()
    return {
        "dataset": scores.dataset,
        "scope": scores.scope,
        "threshold": scores.threshold,
        "edits": scores.edits,
        "auc": areas,
        "at_threshold": at_threshold,
        "curve": curve(scores),
    }


def curve(scores: ScopeScores) -> list[dict[str, float]]:
    """Return, for thresholds from 0 to 1, the percentage missed or disturbed of each group."""
    rows = []
    for step in range(STEPS + 1):
        threshold = step / STEPS
        row = {"threshold": threshold}
        for group, values in scores.groups.items():
            fired = sum(value >= threshold for value in values)
            if group in REJECTS.values():
                row[f"{group}.disturbed"] = round(100.0 * fired / len(values), 4)
            else:
                row[f"{group}.missed"] = round(100.0 * (len(values) - fired) / len(values), 4)
        rows.append(row)
    return rows
