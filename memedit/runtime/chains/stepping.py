"""One step into a question: the edit that answers its inner question, and the question that is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memedit.runtime.chains.inner import Part, inner_parts
from memedit.runtime.chains.linking import newest
from memedit.runtime.chains.reading import cosines, first_places, fit
from memedit.scope.base import Scope
from memedit.scope.identity import is_blocked
from memedit.types import Candidate, Edit, Hit, ScopeDecision

_LEAD = 1.0
"""By so much an edit has to fit an inner question better than any edit fits the whole. Of 167 development questions of
MQuAKE and KnowEdit with an edit for the first hop 162 do, of 360 other wordings of an edit's own question 7."""
_LEAD_OVER_FIRED = 3.5
"""The same where an edit fires on the whole. Of 71 other wordings of an edit's own question that have such parts
("Which company serves as the publisher of X?") 13 lead by 1.0 to 3.3; of 11 one hop further 10 by 3.6 or more.
"""
_SURE = 0.85
"""The scope's score that it has to reach there."""
_VALUE = 200
"""Characters of a value that can stand in a question."""


@dataclass(frozen=True, slots=True)
class InnerStep:
    """The part of a text that an edit answers, the hit, and the text with its target in the part's place."""

    part: Part
    hit: Hit

    @property
    def left(self) -> str:
        """The question that is left."""
        return self.part.answered(self.hit.edit.target)


def inner_step(encoder: Any, scope: Scope, text: str, named: Sequence[Edit], alone: ScopeDecision) -> InnerStep | None:
    """Return the step that fits a question best; None where some edit fits the whole about as well.

    Args:
        encoder: the memory's.
        scope: judges edits beside parts of the question as beside any text.
        text: the question.
        named: edits whose subjects it names.
        alone: the decision that was made of single edits.
    """
    pairs = [
        (part, edit)
        for edits in _by_subject(text, newest([edit for edit in named if _short(edit.target)]))
        for part in inner_parts(text, edits[0])
        for edit in edits[1]
    ]
    if not pairs:
        return None
    whole = [hit for hit in (*alone.fired, *alone.considered) if hit.edit.subject]
    near = cosines(encoder, [*((text, (hit.edit,)) for hit in whole), *((part.asked, (edit,)) for part, edit in pairs)])
    best_whole = max((fit(hit.score, cosine) for hit, cosine in zip(whole, near, strict=False)), default=-1e9)
    steps = _judged(encoder, scope, pairs, near[len(whole) :])
    best = max(steps, key=lambda step: step[1], default=None)
    lead = _LEAD_OVER_FIRED if alone.fired else _LEAD
    if best is None or best[1] < best_whole + lead or best[0].hit.score < _SURE:
        return None
    return None if is_blocked(text, best[0].hit.edit) else best[0]


def _judged(
    encoder: Any, scope: Scope, pairs: Sequence[tuple[Part, Edit]], near: Sequence[float]
) -> list[tuple[InnerStep, float]]:
    """Return what the scope makes of edits beside parts, all in one batch, with how well they fit."""
    rows: dict[Part, list[tuple[Edit, float]]] = {}
    for (part, edit), cosine in zip(pairs, near, strict=True):
        rows.setdefault(part, []).append((edit, cosine))
    encodings = encoder.encode_tokens([part.asked for part in rows])
    candidates = []
    for part, row in rows.items():
        places = first_places(part.asked, [edit for edit, _ in row])
        candidates.append([Candidate(edit, cosine, places.get(edit.id)) for edit, cosine in row])
    found = []
    for (part, row), decision in zip(rows.items(), scope.decide(encodings, candidates, threshold=0.0), strict=True):
        cosine_of = {edit.id: cosine for edit, cosine in row}
        found += [(InnerStep(part, hit), fit(hit.score, cosine_of[hit.edit.id])) for hit in decision.considered]
    return found


def _by_subject(text: str, edits: Sequence[Edit]) -> list[tuple[tuple[int, int], list[Edit]]]:
    """Return the edits by the place in the text where their subject stands."""
    places = first_places(text, edits)
    groups: dict[tuple[int, int], list[Edit]] = {}
    for edit in edits:
        if edit.id in places:
            groups.setdefault(places[edit.id], []).append(edit)
    return list(groups.items())


def _short(value: str) -> bool:
    return 0 < len(value) <= _VALUE and len(value.splitlines()) == 1
