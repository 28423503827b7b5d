"""The rule scope: vector similarity and subject match combined in one calibrated score."""

from collections.abc import Mapping, Sequence

import numpy as np

from memedit.encoders.base import Encoder
from memedit.index.words import words
from memedit.scope.decision import FiringRule, ScoredCandidate, decide_query
from memedit.scope.identity import check_threshold, is_verbatim, scope_fingerprint
from memedit.scope.text import folded_text
from memedit.types import Candidate, Encoding, Hit, ScopeDecision


class SubjectScope:
    """Score = logistic function of the cosine and of how much of the edit's subject stands in the query.

    ``subject_words`` is the share of the subject's words found anywhere in the query. An edit without a subject is
    judged by the cosine alone. A verbatim prompt scores 1. Of several edits whose subjects overlap in the query only
    the best fires, with those less than ``margin`` below it. The weights come from a logistic regression on CounterFact
    paraphrases and neighbours with 3,000 edits in memory; ``docs/scope.md`` has the figures.

    Raises:
        InputError: ``threshold`` outside [0, 1].
    """

    DEFAULT_THRESHOLD = 0.25
    WEIGHTS: Mapping[str, float] = {"similarity": 6.5, "subject": 4.7, "subject_words": 2.3}
    INTERCEPT = -9.0
    WEIGHTS_WITHOUT_SUBJECT: Mapping[str, float] = {"similarity": 20.0}
    INTERCEPT_WITHOUT_SUBJECT = -16.0

    def __init__(
        self, encoder: Encoder, *, threshold: float | None = None, band: float = 0.0, margin: float = 0.0
    ) -> None:
        self._rule = FiringRule(check_threshold(threshold, self.DEFAULT_THRESHOLD), band, margin)
        self._fingerprint = scope_fingerprint(
            self.name,
            encoder.fingerprint,
            weights=[dict(self.WEIGHTS), dict(self.WEIGHTS_WITHOUT_SUBJECT)],
            intercepts=[self.INTERCEPT, self.INTERCEPT_WITHOUT_SUBJECT],
        )

    @property
    def name(self) -> str:
        """Registered name."""
        return "subject"

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
            decide_query(self.name, query, self._judge(query, row), rule)
            for query, row in zip(queries, candidates, strict=True)
        ]

    def _judge(self, query: Encoding, candidates: Sequence[Candidate]) -> list[ScoredCandidate]:
        asked = folded_text(query.text)
        present = set(asked.split())
        return [self._score(asked, present, candidate) for candidate in candidates]

    def _score(self, asked: str, present: set[str], candidate: Candidate) -> ScoredCandidate:
        stands = candidate.subject_span is not None
        reasons = {
            "similarity": candidate.similarity,
            "subject": float(stands),
            "subject_words": 1.0 if stands else _share(candidate.edit.subject, present),
        }
        verbatim = is_verbatim(asked, candidate.edit)
        score = 1.0 if verbatim else self._probability(reasons, with_subject=bool(candidate.edit.subject))
        hit = Hit(candidate.edit, score, candidate.similarity, reasons | {"verbatim": float(verbatim)})
        return ScoredCandidate(hit, candidate.subject_span)

    def _probability(self, reasons: Mapping[str, float], *, with_subject: bool) -> float:
        weights = self.WEIGHTS if with_subject else self.WEIGHTS_WITHOUT_SUBJECT
        intercept = self.INTERCEPT if with_subject else self.INTERCEPT_WITHOUT_SUBJECT
        logit = intercept + sum(weight * reasons[name] for name, weight in weights.items())
        return float(1.0 / (1.0 + np.exp(-logit)))


def _share(subject: str | None, present: set[str]) -> float:
    found = [word.folded in present for word in words(subject or "")]
    return sum(found) / len(found) if found else 0.0
