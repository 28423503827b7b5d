"""Whether two edits ask the same, by a scope's own score: for finding contradictions in other words."""

import functools
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence

import numpy as np

from memedit.encoders.base import Encoder
from memedit.index.subjects import SubjectIndex
from memedit.scope.base import Scope
from memedit.types import Candidate, Edit, Encoding, FloatArray

_REMEMBERED = 2_000
_AT_ONCE = 4
"""Candidates beside one query: no scope judges fewer of them."""


class ScopeConflictScorer:
    """Scores pairs of edits about one subject: do both ask the same?

    Each edit's prompt is judged as a query beside the other edit. The score is the smaller one of both directions:
    they must fall under each other, and the order of arrival does not matter. Where the direction judged first stays
    below ``doubt``, which settles it, the score is that one. A verbatim prompt scores 1, one that the other edit
    blocks 0.

    Args:
        scope: a scope, made for the encoder that is given with the pairs.
        threshold: pairs at or above it surely ask the same.
        doubt: pairs at or above it perhaps do; default: the scope's own threshold, where both fire on both prompts.
    """

    def __init__(self, scope: Scope, *, threshold: float = 0.9, doubt: float | None = None) -> None:
        self._scope = scope
        self._lock = threading.Lock()
        self._encoded: OrderedDict[tuple[str, str], Encoding] = OrderedDict()
        self.threshold = threshold
        self.doubt = min(scope.threshold if doubt is None else doubt, threshold)

    def scores(self, pairs: Sequence[tuple[Edit, Edit]], encoder: Encoder) -> FloatArray:
        """Score pairs ``[n]``, in [0, 1]; every prompt is encoded once, all are judged in one call of the scope."""
        return self.scores_noting(pairs, encoder, {})

    def scores_noting(
        self, pairs: Sequence[tuple[Edit, Edit]], encoder: Encoder, vectors: dict[str, FloatArray]
    ) -> FloatArray:
        """Score pairs, and put the vectors of their prompts into ``vectors``, by text."""
        encoded = self._encodings({edit.prompt for pair in pairs for edit in pair}, encoder)
        vectors.update((prompt, encoding.vector) for prompt, encoding in encoded.items())
        ordered = [(one, other) if one.id <= other.id else (other, one) for one, other in pairs]
        found = self._judged(encoded, ordered)
        found |= self._judged(
            encoded, [(other, one) for one, other in ordered if found[one.prompt, other.id] >= self.doubt]
        )
        both = [min(found[one.prompt, other.id], found.get((other.prompt, one.id), 1.0)) for one, other in ordered]
        return np.array(both, np.float32)

    def _encodings(self, prompts: set[str], encoder: Encoder) -> dict[str, Encoding]:
        """Encode prompts; a subject's earlier ones, which come again with every add, are remembered."""
        known, of = self._encoded, encoder.fingerprint
        with self._lock:
            found = {prompt: known[of, prompt] for prompt in prompts if (of, prompt) in known}
        missing = sorted(prompts - found.keys())
        fresh = dict(zip(missing, encoder.encode_tokens(missing), strict=True)) if missing else {}
        with self._lock:
            known.update(((of, prompt), encoding) for prompt, encoding in fresh.items())
            while len(known) > _REMEMBERED:
                known.popitem(last=False)
        return found | fresh

    def _judged(self, encoded: dict[str, Encoding], asked: Sequence[tuple[Edit, Edit]]) -> dict[tuple[str, str], float]:
        """Judge the prompt of each first edit beside the second: scores by (prompt, edit id), 0 where it is left out.

        The scope sees few candidates of a prompt at once.
        """
        spans = functools.cache(_subject_span)
        beside: dict[str, dict[str, Candidate]] = defaultdict(dict)
        for one, other in asked:
            if other.id not in beside[one.prompt]:
                similarity = float(np.clip(encoded[one.prompt].vector @ encoded[other.prompt].vector, -1.0, 1.0))
                beside[one.prompt][other.id] = Candidate(other, similarity, spans(other.subject, one.prompt))
        parts = [
            (prompt, list(row.values())[at : at + _AT_ONCE])
            for prompt, row in beside.items()
            for at in range(0, len(row), _AT_ONCE)
        ]
        found = {(prompt, item.edit.id): 0.0 for prompt, part in parts for item in part}
        queries, candidates = [encoded[prompt] for prompt, _ in parts], [part for _, part in parts]
        decisions = self._scope.decide(queries, candidates, threshold=0.0) if parts else []
        for (prompt, _), decision in zip(parts, decisions, strict=True):
            found.update(((prompt, hit.edit.id), hit.score) for hit in decision.considered)
        return found


def _subject_span(subject: str | None, text: str) -> tuple[int, int] | None:
    finder = SubjectIndex()
    finder.add(0, subject or "")
    places = finder.find(text) if subject else []
    return (places[-1].start, places[-1].end) if places else None


def trained_conflict_scorer(encoder: Encoder) -> ScopeConflictScorer | None:
    """Return the scorer of the shipped classifier, None where that was not trained for ``encoder``."""
    from memedit.scope.judge import JudgeScope, shipped_for

    return None if shipped_for(encoder.fingerprint) is None else ScopeConflictScorer(JudgeScope(encoder))
