"""Whether two edits ask the same, by a scope's own score: for finding contradictions in other words."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from memedit.encoders.base import Encoder
from memedit.index.subjects import SubjectIndex
from memedit.scope.base import Scope
from memedit.types import Candidate, Edit, Encoding, FloatArray

_AT_ONCE = 4
"""Candidates beside one query: no scope judges fewer of them."""


class ScopeConflictScorer:
    """Scores pairs of edits about one subject: do both ask the same?

    Each edit's prompt is judged as a query beside the other edit. The score is the smaller one of both directions:
    they must fall under each other, and the order of arrival does not matter. A verbatim prompt scores 1, one that the
    other edit blocks 0.

    Args:
        scope: a scope, made for the encoder that is given with the pairs.
        threshold: pairs at or above it surely ask the same.
        doubt: pairs at or above it perhaps do; default: the scope's own threshold, where both fire on both prompts.
    """

    def __init__(self, scope: Scope, *, threshold: float = 0.9, doubt: float | None = None) -> None:
        self._scope = scope
        self.threshold = threshold
        self.doubt = min(scope.threshold if doubt is None else doubt, threshold)

    def scores(self, pairs: Sequence[tuple[Edit, Edit]], encoder: Encoder) -> FloatArray:
        """Score pairs ``[n]``, in [0, 1]; every prompt is encoded once, all are judged in one call of the scope."""
        prompts = list(dict.fromkeys(edit.prompt for pair in pairs for edit in pair))
        encoded = dict(zip(prompts, encoder.encode_tokens(prompts), strict=True)) if prompts else {}
        beside: dict[str, dict[str, Candidate]] = defaultdict(dict)
        for one, other in pairs:
            for asked, edit in ((one, other), (other, one)):
                if edit.id not in beside[asked.prompt]:
                    query, stored = encoded[asked.prompt], encoded[edit.prompt]
                    beside[asked.prompt][edit.id] = _candidate(query, stored, edit)
        found = self._judged(encoded, beside)
        both = [min(found[one.prompt, other.id], found[other.prompt, one.id]) for one, other in pairs]
        return np.array(both, np.float32)

    def _judged(
        self, encoded: dict[str, Encoding], beside: dict[str, dict[str, Candidate]]
    ) -> dict[tuple[str, str], float]:
        """Return the score of each query's candidates by (prompt, edit id); those left out by the scope score 0."""
        parts = [
            (prompt, list(row.values())[at : at + _AT_ONCE])
            for prompt, row in beside.items()
            for at in range(0, len(row), _AT_ONCE)
        ]
        found = {(prompt, item.edit.id): 0.0 for prompt, part in parts for item in part}
        queries, candidates = [encoded[prompt] for prompt, _ in parts], [part for _, part in parts]
        decisions = self._scope.decide(queries, candidates, threshold=0.0)
        for (prompt, _), decision in zip(parts, decisions, strict=True):
            found.update(((prompt, hit.edit.id), hit.score) for hit in decision.considered)
        return found


def _candidate(query: Encoding, stored: Encoding, edit: Edit) -> Candidate:
    finder = SubjectIndex()
    finder.add(0, edit.subject or "")
    places = finder.find(query.text) if edit.subject else []
    span = (places[-1].start, places[-1].end) if places else None
    return Candidate(edit, float(np.clip(query.vector @ stored.vector, -1.0, 1.0)), span)


def trained_conflict_scorer(encoder: Encoder) -> ScopeConflictScorer | None:
    """Return the scorer of the shipped classifier, None where that was not trained for ``encoder``."""
    from memedit.scope.judge import JudgeScope, ships_for

    return ScopeConflictScorer(JudgeScope(encoder)) if ships_for(encoder.fingerprint) else None
