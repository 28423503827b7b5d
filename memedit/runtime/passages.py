"""Long queries: which edits a passage falls under, decided from its parts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from memedit.encoders import split_long, split_sentences
from memedit.scope.decision import BLOCKED
from memedit.scope.identity import is_blocked
from memedit.scope.talk import turns_of
from memedit.types import Hit, ScopeDecision

Judge = Callable[[Sequence[str], float], list[ScopeDecision]]
"""Texts and a threshold to one decision a text, all judged in one batch."""

_WORTH_READING = 0.02
_SENTENCE_ERRORS = 0.4
_WINDOW_ERRORS = 0.2


def decide_parts(queries: Sequence[str], judge: Judge, *, threshold: float) -> list[ScopeDecision]:
    """Return one decision a query, in order.

    A query that fits one window is judged as it is. A longer one has many parts, each a chance to err, and what it
    asks is diluted in each of its windows. So its windows only fire at a score that leaves a fifth of the errors which
    ``threshold`` leaves (1 - threshold); a passage with a window that scores at least 0.02 is read again sentence by
    sentence, and a sentence fires at a score that leaves four tenths of those errors. All windows of all queries are
    judged together, and so are all sentences.

    Args:
        queries: texts; empty ones are silent.
        judge: looks texts up and judges them.
        threshold: what a short query has to reach, in [0, 1].
    """
    windows = [split_long(query) if query.strip() else [] for query in queries]
    seen = _judged(windows, judge, threshold)
    doubtful = [len(found) > 1 and _best_score(found) >= _WORTH_READING for found in seen]
    sentences = [split_sentences(query) if look else [] for query, look in zip(queries, doubtful, strict=True)]
    read = _judged(sentences, judge, _leaving(_SENTENCE_ERRORS, threshold))
    return [_decision(*row, threshold) for row in zip(queries, seen, read, strict=True)]


def no_match(query: str) -> ScopeDecision:
    """Return the decision where nothing was looked up: there is nothing stored, or nothing asked."""
    return ScopeDecision(query=query, scope="none", threshold=1.0, fired=(), considered=())


def joined(alone: ScopeDecision, told: ScopeDecision) -> ScopeDecision:
    """Return what a last turn asks, alone or as it refers to its talk; each edit stands at its better score.

    What the last turn names itself goes before what it may refer to. An edit that is blocked for the last turn alone is
    silent. Where an earlier turn named the subject of an edit, the decision's query is the talk.
    """
    blocked = {hit.edit.id for hit in alone.considered if BLOCKED in hit.reasons}
    fired = alone.fired or tuple(hit for hit in told.fired if hit.edit.id not in blocked)
    return replace(
        alone,
        query=" || ".join(turns_of(told.query)) if told.considered else alone.query,
        fired=fired,
        considered=_best_of([*alone.considered, *told.considered]),
        abstained=not fired and (alone.abstained or told.abstained),
    )


def _leaving(share: float, threshold: float) -> float:
    """Return the score that leaves ``share`` of the errors that ``threshold`` leaves."""
    return 1.0 - share * (1.0 - threshold)


def _judged(rows: Sequence[Sequence[str]], judge: Judge, threshold: float) -> list[list[ScopeDecision]]:
    """Judge the parts of all rows in one batch; return them row by row."""
    parts = [part for row in rows for part in row]
    decisions = iter(judge(parts, threshold) if parts else ())
    return [[next(decisions) for _ in row] for row in rows]


def _best_score(parts: Sequence[ScopeDecision]) -> float:
    return max((hit.score for part in parts for hit in part.considered), default=0.0)


def _decision(
    query: str, windows: Sequence[ScopeDecision], sentences: Sequence[ScopeDecision], threshold: float
) -> ScopeDecision:
    if not windows:
        return no_match(query)
    if len(windows) == 1:
        return replace(windows[0], query=query)
    least = _leaving(_WINDOW_ERRORS, threshold)
    sure = [hit for part in windows for hit in part.fired if hit.score >= least]
    found = _best_of([*sure, *(hit for part in sentences for hit in part.fired)])
    fired = tuple(hit for hit in found if not is_blocked(query, hit.edit))  # a block may be longer than a part
    return ScopeDecision(
        query=query,
        scope=windows[0].scope,
        threshold=threshold,
        fired=fired,
        considered=_best_of([hit for part in (*windows, *sentences) for hit in part.considered]),
        abstained=not fired and any(part.abstained or part.fired for part in (*windows, *sentences)),
    )


def _best_of(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """Return each edit once, at its best score, best first."""
    best: dict[str, Hit] = {}
    for hit in hits:
        if hit.edit.id not in best or hit.score > best[hit.edit.id].score:
            best[hit.edit.id] = hit
    return tuple(sorted(best.values(), key=lambda hit: -hit.score))
