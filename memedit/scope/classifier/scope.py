"""The trained scope, behind the same interface as the rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memedit.encoders.base import Encoder
from memedit.scope.classifier.batch import MAX_QUERY_TOKENS, EditSide, QuerySide, query_side, stack_edits, windows
from memedit.scope.classifier.cache import EditViews
from memedit.scope.classifier.cross_encoder import Pair, cross_encoder_of, is_close, masked_pair, moved
from memedit.scope.classifier.features import FEATURES, Comparison, compare
from memedit.scope.classifier.head import head_logits
from memedit.scope.classifier.model import SHIPPED, ClassifierModel, load_model
from memedit.scope.classifier.projection import Projection
from memedit.scope.classifier.views import EditView
from memedit.scope.decision import FiringRule, ScoredCandidate, decide_query
from memedit.scope.identity import check_threshold, is_verbatim, scope_fingerprint
from memedit.scope.text import is_name, normalise
from memedit.types import Candidate, Edit, Encoding, FloatArray, Hit, ScopeDecision

MAX_CANDIDATES = 16
_HIGHEST = 0.9999
"""Scores of the head end here: 1 is a verbatim prompt's."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """One text of one candidate: its logit, the features behind it, and what a second look made of the logit."""

    row: int
    logit: float
    features: FloatArray
    text: str
    again: float | None = None


class ClassifierScope:
    """Score = calibrated probability that the query falls under the edit, from a small trained head.

    The head reads the encoder's token vectors of the query and of each candidate's texts, all candidates in one batch,
    and needs no other forward pass but for close calls, at which a cross-encoder looks again. Token vectors of edits
    are kept in a cache; :meth:`prepare` makes them as bytes when edits are added, :meth:`accept` takes them back, what
    is missing is encoded when first needed. A verbatim prompt scores 1.

    Args:
        encoder: the encoder of the queries.
        threshold: default: the one that was calibrated in training.
        band: width of the abstention band under the threshold; default: the trained one.
        margin: of edits whose subjects overlap in the query only the best fires and those less than this below it.
        weights: folder of the trained parameters; default: the shipped ones.
        cache_size: how many edits' token vectors are kept.

    Raises:
        InputError: threshold out of range, or the weights cannot be read.
        FingerprintMismatchError: the weights were trained on another encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        threshold: float | None = None,
        band: float | None = None,
        margin: float = 0.0,
        weights: Path | str | None = None,
        cache_size: int = 10_000,
    ) -> None:
        self._model = load_model(Path(weights) if weights is not None else SHIPPED, encoder.fingerprint)
        chosen = check_threshold(threshold, self._model.threshold)
        self._rule = FiringRule(chosen, self._model.band if band is None else band, margin)
        self._projection = Projection(self._model.projection, self._model.rarity)
        self._cross = cross_encoder_of(self._model.cross, encoder)
        self._views = EditViews(encoder, self._projection, cache_size)
        self._fingerprint = scope_fingerprint(self.name, encoder.fingerprint, model=self._model.fingerprint())

    @property
    def name(self) -> str:
        """Registered name."""
        return "classifier"

    @property
    def threshold(self) -> float:
        """Scores at or above it fire."""
        return self._rule.threshold

    @property
    def fingerprint(self) -> str:
        """Hash of everything the scores depend on, the encoder's fingerprint included."""
        return self._fingerprint

    @property
    def model(self) -> ClassifierModel:
        """The trained parameters."""
        return self._model

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return the projected token vectors of edits as bytes by edit id, for the memory to keep."""
        return self._views.pack(edits)

    def missing(self, edits: Sequence[Edit]) -> list[Edit]:
        """Return the edits whose token vectors are not in the cache."""
        return self._views.missing(edits)

    def accept(self, artefacts: Mapping[str, bytes]) -> int:
        """Take what :meth:`prepare` returned into the cache; damaged entries are left out. Return how many came in."""
        return self._views.accept(artefacts)

    def decide(
        self, queries: Sequence[Encoding], candidates: Sequence[Sequence[Candidate]], *, threshold: float | None = None
    ) -> list[ScopeDecision]:
        """Judge each query's candidates in one batch; several edits may fire on one query."""
        rule = self._rule.at(threshold)
        rows = [_most_promising(row) for row in candidates]
        views = self._views.get([candidate.edit for row in rows for candidate in row])
        judged = [self._judge(query, row, views) for query, row in zip(queries, rows, strict=True)]
        judged = self._look_again(queries, rows, judged)
        return [
            decide_query(self.name, query, self._scored_all(query, row, best), rule)
            for query, row, best in zip(queries, rows, judged, strict=True)
        ]

    def _judge(
        self, query: Encoding, candidates: Sequence[Candidate], views: Mapping[str, tuple[EditView, ...]]
    ) -> list[_Judged]:
        """Return the best text of each candidate."""
        if not candidates:
            return []
        best: dict[int, _Judged] = {}
        for judged in self._logits(query, candidates, views):
            if judged.row not in best or judged.logit > best[judged.row].logit:
                best[judged.row] = judged
        return [best[row] for row in range(len(candidates))]

    def _look_again(
        self, queries: Sequence[Encoding], rows: Sequence[Sequence[Candidate]], judged: Sequence[Sequence[_Judged]]
    ) -> list[list[_Judged]]:
        """Have the cross-encoder move the logits of close calls, those of all queries in one batch."""
        looked = [list(best) for best in judged]
        if self._cross is None:
            return looked
        pairs: dict[tuple[int, int], Pair] = {}
        for number, (query, row, best) in enumerate(zip(queries, rows, judged, strict=True)):
            for place in self._close(query, row, best):
                subject, span = row[place].edit.subject or "", row[place].subject_span or (0, 0)
                pairs[number, place] = masked_pair(query.text, span, best[place].text, subject)
        before = np.array([looked[number][place].logit for number, place in pairs], np.float32)
        after = moved(before, self._cross.logits(list(pairs.values())))
        for (number, place), logit in zip(pairs, after.tolist(), strict=True):
            looked[number][place] = replace(looked[number][place], again=logit)
        return looked

    def _close(self, query: Encoding, row: Sequence[Candidate], best: Sequence[_Judged]) -> list[int]:
        """Return the places of the candidates that are near the threshold and that a query names, but not verbatim.

        Of a long query, which may be a cut out of a longer one, there are none.
        """
        if not best or len(query.spans) > MAX_QUERY_TOKENS:
            return []
        logits = np.array([item.logit for item in best], np.float32)
        close = is_close(logits, np.stack([item.features for item in best]), self._model.undecided)
        named = [at for at in np.flatnonzero(close).tolist() if row[at].subject_span is not None]
        asked = normalise(query.text) if named else ""
        return [at for at in named if not is_verbatim(asked, row[at].edit)]

    def _scored_all(
        self, query: Encoding, candidates: Sequence[Candidate], best: Sequence[_Judged]
    ) -> list[ScoredCandidate]:
        asked = normalise(query.text)
        return [self._scored(asked, item, judged) for item, judged in zip(candidates, best, strict=True)]

    def _scored(self, asked: str, candidate: Candidate, judged: _Judged) -> ScoredCandidate:
        subject = candidate.edit.subject or ""
        absent = bool(subject) and candidate.subject_span is None
        verbatim = is_verbatim(asked, candidate.edit)
        logit = judged.logit if judged.again is None else judged.again
        probability = self._model.probability(logit, absent=absent)
        if absent and not is_name(subject):
            probability = max(probability, self._model.likeness(candidate.similarity))
        probability = min(probability, _HIGHEST)
        reasons = {"verbatim": float(verbatim), "logit": judged.logit}
        reasons |= {} if judged.again is None else {"second_look": judged.again}
        reasons |= dict(zip(FEATURES, judged.features.tolist(), strict=True))
        score, direct = (1.0, 1.0) if verbatim else (probability, self._model.directness(judged.features))
        hit = Hit(candidate.edit, score, candidate.similarity, reasons, direct)
        return ScoredCandidate(hit, candidate.subject_span)

    def _logits(
        self, query: Encoding, candidates: Sequence[Candidate], views: Mapping[str, tuple[EditView, ...]]
    ) -> list[_Judged]:
        """Compare the query with every text of every candidate."""
        rows = [(row, view) for row, item in enumerate(candidates) for view in views[item.edit.content_hash]]
        whole = self._projection.view(query)
        judged: list[_Judged] = []
        for view, chosen in windows(whole, [candidates[row].subject_span for row, _ in rows]):
            picked = [rows[i] for i in chosen]
            items = [candidates[row] for row, _ in picked]
            side = query_side(view, [item.subject_span for item in items])
            edits = stack_edits([text for _, text in picked])
            similarity = np.array([item.similarity for item in items], np.float32)
            comparison = compare(side, edits, similarity, [item.edit.subject or item.edit.id for item in items])
            logits = self._head(side, edits, comparison)
            judged += [
                _Judged(row, float(logit), features, text.view.text)
                for (row, text), logit, features in zip(picked, logits, comparison.features, strict=True)
            ]
        return judged

    def _head(self, query: QuerySide, edits: EditSide, comparison: Comparison) -> FloatArray:
        return head_logits(self._model.head, query, edits, comparison)


def _most_promising(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Keep at most ``MAX_CANDIDATES``: those whose subject stands in the query first, then the most similar."""
    if len(candidates) <= MAX_CANDIDATES:
        return list(candidates)
    ordered = sorted(candidates, key=lambda item: (item.subject_span is None, -item.similarity))
    return ordered[:MAX_CANDIDATES]
