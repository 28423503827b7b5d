"""A scope that needs no model: how many of the words of a query and an edit's prompt they share."""

from collections.abc import Sequence

from memedit.index.words import folded_words
from memedit.scope.decision import FiringRule, ScoredCandidate, decide_query
from memedit.scope.identity import is_verbatim
from memedit.scope.text import folded_text
from memedit.types import Candidate, Encoding, Hit, ScopeDecision

_COMMON = {"what", "who", "is", "the", "of", "a", "in", "that", "to"}


class WordScope:
    """Scores an edit whose subject the query names by the Jaccard index of both texts' words, squashed to [0, 1]."""

    def __init__(self, *, name: str = "words", threshold: float = 0.6) -> None:
        self.name, self.threshold, self.fingerprint = name, threshold, f"words-{name}"

    def decide(
        self, queries: Sequence[Encoding], candidates: Sequence[Sequence[Candidate]], *, threshold: float | None = None
    ) -> list[ScopeDecision]:
        rule = FiringRule(self.threshold).at(threshold)
        return [
            decide_query(self.name, query, [self._scored(query.text, item) for item in row], rule)
            for query, row in zip(queries, candidates, strict=True)
        ]

    @staticmethod
    def _scored(text: str, item: Candidate) -> ScoredCandidate:
        if is_verbatim(folded_text(text), item.edit):
            return ScoredCandidate(Hit(item.edit, 1.0, item.similarity, {"verbatim": 1.0}, 1.0), item.subject_span)
        asked, told = ({*folded_words(part)} - _COMMON for part in (text, item.edit.prompt))
        shared = len(asked & told) / max(len(asked | told), 1) if item.subject_span is not None else 0.0
        return ScoredCandidate(Hit(item.edit, shared**0.5, item.similarity, {"shared": shared}), item.subject_span)
