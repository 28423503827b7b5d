"""Whether two edits ask the same, by a scope's own score: for finding contradictions in other words."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from memedit.encoders.base import Encoder
from memedit.index.subjects import SubjectIndex
from memedit.scope.base import Scope
from memedit.types import Candidate, Edit, EditKind, EditState, Encoding, FloatArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STORED = Edit(
    id="stored",
    namespace="",
    prompt="",
    target="",
    subject=None,
    paraphrases=(),
    ground_truth=None,
    kind=EditKind.FACT,
    metadata={},
    source=None,
    created_at=_EPOCH,
    expired_at=None,
    valid_at=None,
    invalid_at=None,
    version=1,
    state=EditState.ACTIVE,
    content_hash="",
)


class ScopeConflictScorer:
    """Scores pairs ``(new_prompt, old_prompt, subject)``: do two prompts about one subject ask the same?

    Each prompt is judged as a query beside an edit with the other. The score is the smaller one of both directions:
    they must fall under each other, and the order of arrival does not matter. A verbatim prompt scores 1.

    Args:
        scope: a trained scope, made for the encoder that is given with the pairs.
        threshold: pairs at or above it have the same relation.
    """

    def __init__(self, scope: Scope, *, threshold: float = 0.9) -> None:
        self._scope = scope
        self.threshold = threshold

    def __call__(self, new_prompt: str, old_prompt: str, subject: str, encoder: Encoder) -> float:
        """Score one pair, in [0, 1]."""
        return float(self.scores([(new_prompt, old_prompt, subject)], encoder)[0])

    def scores(self, pairs: Sequence[tuple[str, str, str]], encoder: Encoder) -> FloatArray:
        """Score pairs ``[n]``, in [0, 1]; every different prompt is encoded once."""
        prompts = list(dict.fromkeys(prompt for new, old, _ in pairs for prompt in (new, old)))
        encoded = dict(zip(prompts, encoder.encode_tokens(prompts), strict=True)) if prompts else {}
        both = [(*pair, swapped) for pair in pairs for swapped in (False, True)]
        queries = [encoded[old if swapped else new] for new, old, _, swapped in both]
        stored = [encoded[new if swapped else old] for new, old, _, swapped in both]
        candidates = [
            [_candidate(query, edit, subject)]
            for query, edit, (_, _, subject, _) in zip(queries, stored, both, strict=True)
        ]
        decisions = self._scope.decide(queries, candidates, threshold=0.0)
        found = [max((hit.score for hit in decision.considered), default=0.0) for decision in decisions]
        return np.array(found, np.float32).reshape(-1, 2).min(axis=1)


def _candidate(query: Encoding, stored: Encoding, subject: str) -> Candidate:
    finder = SubjectIndex()
    finder.add(0, subject)
    places = finder.find(query.text)
    span = (places[-1].start, places[-1].end) if places else None
    name = f"{subject}\0{stored.text}"
    edit = replace(_STORED, id=name, prompt=stored.text, subject=subject, content_hash=name)
    return Candidate(edit, float(np.clip(query.vector @ stored.vector, -1.0, 1.0)), span)


def trained_conflict_scorer(encoder: Encoder) -> ScopeConflictScorer | None:
    """Return the scorer of the shipped classifier, None where that was not trained for ``encoder``."""
    from memedit.scope.judge import JudgeScope, ships_for

    return ScopeConflictScorer(JudgeScope(encoder)) if ships_for(encoder.fingerprint) else None
