"""The plain scope: cosine of the sentence vectors against a threshold."""

from collections.abc import Sequence

from memedit.encoders.base import Encoder
from memedit.scope.decision import FiringRule, ScoredCandidate, decide_query
from memedit.scope.identity import check_threshold, is_verbatim, scope_fingerprint
from memedit.scope.text import folded_text
from memedit.types import Candidate, Encoding, Hit, ScopeDecision


class SimilarityScope:
    """Score = cosine of query and edit, negative values cut to 0; a verbatim prompt scores 1.

    The baseline that the other scopes are compared with. ``margin`` and ``band`` as in
    :class:`~memedit.scope.decision.FiringRule`.

    Raises:
        InputError: ``threshold`` outside [0, 1].
    """

    DEFAULT_THRESHOLD = 0.75

    def __init__(
        self, encoder: Encoder, *, threshold: float | None = None, band: float = 0.0, margin: float = 0.0
    ) -> None:
        self._rule = FiringRule(check_threshold(threshold, self.DEFAULT_THRESHOLD), band, margin)
        self._fingerprint = scope_fingerprint(self.name, encoder.fingerprint)

    @property
    def name(self) -> str:
        """Registered name."""
        return "similarity"

    @property
    def threshold(self) -> float:
        """Scores at or above it fire."""
        return self._rule.threshold

    @property
    def fingerprint(self) -> str:
        """Hash of everything the scores depend on, the encoder's fingerprint included."""
        return self._fingerprint

    def decide(
        self, queries: Sequence[Encoding], candidates: Sequence[Sequence[Candidate]], *, threshold: float | None = None
    ) -> list[ScopeDecision]:
        """Judge each query's candidates; several edits may fire on one query."""
        rule = self._rule.at(threshold)
        return [
            decide_query(self.name, query, _judge(query, row), rule)
            for query, row in zip(queries, candidates, strict=True)
        ]


def _judge(query: Encoding, candidates: Sequence[Candidate]) -> list[ScoredCandidate]:
    asked = folded_text(query.text)
    scored = []
    for candidate in candidates:
        verbatim = is_verbatim(asked, candidate.edit)
        score = 1.0 if verbatim else min(max(candidate.similarity, 0.0), 1.0)
        reasons = {"similarity": candidate.similarity, "verbatim": float(verbatim)}
        scored.append(ScoredCandidate(Hit(candidate.edit, score, candidate.similarity, reasons), None))
    return scored
