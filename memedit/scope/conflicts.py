"""Whether two edits ask the same, by a scope's own score: for finding contradictions in other words."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from memedit.encoders.base import Encoder
from memedit.index.subjects import SubjectIndex
from memedit.scope.base import Scope
from memedit.types import Candidate, Edit, EditKind, EditState

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
    """``(new_prompt, old_prompt, subject, encoder) -> score``: does the new prompt fall under the old edit?

    The score is the smaller one of both directions: both prompts must fall under each other, and the order of arrival
    does not matter. Compare it with the
    scope's threshold. Costs a forward pass per pair: for bulk imports use a scorer that works on vectors.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __call__(self, new_prompt: str, old_prompt: str, subject: str, encoder: Encoder) -> float:
        """Score one pair, in [0, 1]."""
        encodings = encoder.encode_tokens([new_prompt, old_prompt])
        similarity = float(np.clip(encodings[0].vector @ encodings[1].vector, -1.0, 1.0))
        finder = SubjectIndex()
        finder.add(0, subject)
        candidates = []
        for asked, stored in ((new_prompt, old_prompt), (old_prompt, new_prompt)):
            edit = replace(_STORED, prompt=stored, subject=subject, content_hash=f"{subject}\0{stored}")
            places = finder.find(asked)
            span = (places[-1].start, places[-1].end) if places else None
            candidates.append([Candidate(edit, similarity, span)])
        decisions = self._scope.decide(encodings, candidates, threshold=0.0)
        return min(hit.score for decision in decisions for hit in decision.considered)
