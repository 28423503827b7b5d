"""From scored candidates to a decision: which edits fire, and which step back for a better one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from memedit.scope.identity import check_threshold, is_blocked
from memedit.scope.talk import turns_of
from memedit.scope.text import folded_text
from memedit.types import Edit, Encoding, Hit, ScopeDecision

Span = tuple[int, int]
_TINY = 1e-6
BLOCKED = "blocked"
"""Among a hit's reasons where the query is one of the texts that must not fire the edit."""


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A judged candidate and the part of the query it speaks for (character offsets; None: the whole query)."""

    hit: Hit
    span: Span | None


@dataclass(frozen=True, slots=True)
class FiringRule:
    """When a scored edit fires.

    ``threshold``: scores at or above it fire. ``band``: a best score in ``[threshold - band, threshold)`` is reported
    as abstained. ``margin``: of several edits that speak for overlapping parts of the query only the best fires and
    those whose score lies less than ``margin`` below it, and whose log-odds lie less than ``lead`` below its log-odds:
    of .999 and .97 the first is thirty times as sure.
    """

    threshold: float
    band: float = 0.0
    margin: float = 0.0
    lead: float = math.inf

    def at(self, threshold: float | None) -> "FiringRule":
        """Return this rule with another threshold (None: unchanged).

        Raises:
            InputError: the threshold lies outside [0, 1].
        """
        return replace(self, threshold=check_threshold(threshold, self.threshold))


Twins = Callable[[Edit, Edit], bool]
"""Say of two edits whether they answer one question about one subject."""


def decide_query(
    scope: str, query: Encoding, scored: Sequence[ScoredCandidate], rule: FiringRule, twins: Twins | None = None
) -> ScopeDecision:
    """Order candidates by score and let those that win their part of the query fire, best first.

    Of edits that ``twins`` takes for one question only the best fires.
    Which edit wins does not depend on the threshold, so a threshold may be calibrated on decisions made at 0. An edit
    that blocks the query never fires, whatever its score and the threshold; it is reported with score 0.
    """
    asked = turns_of(query.text)[-1]
    judged = [_silenced(item) if is_blocked(asked, item.hit.edit) else item for item in scored]
    ordered = sorted(judged, key=_best_first, reverse=True)
    winners = _winners(ordered, rule, twins)
    fired = tuple(item.hit for item in winners if item.hit.score >= rule.threshold)
    best = winners[0].hit.score if winners else 0.0
    return ScopeDecision(
        query=query.text,
        scope=scope,
        threshold=rule.threshold,
        fired=fired,
        considered=tuple(item.hit for item in ordered),
        abstained=not fired and bool(winners) and rule.threshold - rule.band <= best,
    )


def _silenced(item: ScoredCandidate) -> ScoredCandidate:
    hit = item.hit
    return replace(item, hit=Hit(hit.edit, 0.0, hit.similarity, {**hit.reasons, BLOCKED: 1.0}, 0.0))


def _best_first(item: ScoredCandidate) -> tuple[float, float, str]:
    # at equal scores the later edit is the one in force
    return item.hit.score, *_age(item.hit.edit)


def _age(edit: Edit) -> tuple[float, str]:
    return edit.created_at.timestamp(), edit.id


def _prompt_key(edit: Edit) -> tuple[str, str]:
    return folded_text(edit.prompt), folded_text(edit.subject or "")


def _winners(ordered: Sequence[ScoredCandidate], rule: FiringRule, twins: Twins | None) -> list[ScoredCandidate]:
    """Drop what a better candidate already speaks for; of edits with the same prompt only the latest counts."""
    latest: dict[tuple[str, str], Edit] = {}
    for item in sorted(ordered, key=lambda item: _age(item.hit.edit)):
        latest[_prompt_key(item.hit.edit)] = item.hit.edit
    winners: list[ScoredCandidate] = []
    for item in ordered:
        if latest[_prompt_key(item.hit.edit)].id != item.hit.edit.id or BLOCKED in item.hit.reasons:
            continue
        if twins is not None and any(twins(winner.hit.edit, item.hit.edit) for winner in winners):
            continue
        rivals = [w for w in winners if overlaps(w.span, item.span)]
        if all(_level(rival.hit.score, item.hit.score, rule) for rival in rivals):
            winners.append(item)
    return winners


def _level(better: float, score: float, rule: FiringRule) -> bool:
    """Say whether a score is near enough to a rival's for both to fire."""
    return 0.0 <= better - score < rule.margin and _log_odds(better) - _log_odds(score) < rule.lead


def _log_odds(score: float) -> float:
    bounded = min(max(score, _TINY), 1.0 - _TINY)
    return math.log(bounded / (1.0 - bounded))


def overlaps(first: Span | None, second: Span | None) -> bool:
    """Say whether two parts of the query share a character; None stands for the whole query."""
    if first is None or second is None:
        return True
    return first[0] < second[1] and second[0] < first[1]
