"""A first hop that no edit holds: the model is asked for it, an edit answers what is then left of the question.

"What is the capital of *the country where Ann Ray was born*?" Memory says nothing of Ann Ray, but of the capitals of
countries. The model is asked only where the wording has a question within a question, and a stored edit would answer
the outer one if its subject were what the inner one asks for. What it says counts only where it names the subject of an
edit that then fires.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.runtime.chains.inner import Part, inner_parts
from memedit.runtime.chains.reading import first_places
from memedit.scope.base import Scope
from memedit.scope.text import folded_text
from memedit.types import Candidate, Edit, Hit, ScopeDecision

BaseSays = Callable[[str], str]
"""What the bare model says something is, in few words: "the country where Ann Ray was born" to "Norland"."""

_NESTED = re.compile(
    r"\s(?:of|in|by|for|from|to|at|with|on|is|are|was|were|do|does|did|made|leads|runs)\s+(?=(?P<inner>the\s+"
    r"(?:[\w-]+\s+){1,4}?(?:of|in|by|for|from|to|at|with|on|that|which|who|whose|where|when)\s"
    r"|[A-Z][^?!\n]{0,60}?['’]s?\s+[a-z]))"
)
"""Wording of a question within a question: "... of the country where ...", "... of Ann Ray's home town"."""
_CUT_SHORT = re.compile(r"\s(?:is|are|was|were|which|that|who|where|in|of|by)$")
_NAME = re.compile(r"[A-Z\d][\w.'’&-]*(?:\s+(?:(?:of|the|de|von|van|and)\s+)*[A-Z\d][\w.'’&-]*)*")
_SAID = 60
"""Characters of what the model says: names are short."""
_PARTS = 4
_NEAREST = 8
_PLACE = "it"
"""What stands for the answer to the inner question where edits for the outer one are looked for."""


@dataclass(frozen=True, slots=True)
class BaseStep:
    """A part of a text that the model has answered with the subject of an edit that answers the rest."""

    part: Part
    value: str

    @property
    def left(self) -> str:
        """The question that is left."""
        return self.part.answered(self.value)


def nested_parts(text: str) -> list[Part]:
    """Return the parts of a text that its wording sets apart as questions about a name, the longest first."""
    starts = {found.start("inner") for found in _NESTED.finditer(text)}
    name = list(_NAME.finditer(text, 1))[-1:]
    if not starts or not name:
        return []
    parts = [part for part in inner_parts(text, name[0].span()) if part.start in starts]
    return [part for part in parts if not _CUT_SHORT.search(part.asked)][:_PARTS]


def base_step(
    memory: Any,
    scope: Scope,
    text: str,
    threshold: float,
    *,
    namespace: str | None,
    says: BaseSays,
    again: Callable[[str], ScopeDecision],
) -> tuple[BaseStep, ScopeDecision] | None:
    """Return the first hop that the model answers, and the decision of what is left by edits; None where there is none.

    Args:
        memory: the edit memory.
        scope: judges edits.
        text: the question, which no edit answers.
        threshold: what the scope's score has to reach.
        namespace: the memory's namespace, None for its own.
        says: asks the bare model.
        again: makes the decision of another question by single edits.
    """
    parts = nested_parts(text)
    outer = _answerable(memory, scope, parts, threshold, namespace) if parts else []
    for part in outer[:1]:
        value = _named(says(part.asked))
        step = BaseStep(part, value)
        if value:
            decision = again(step.left)
            if any(_about(step, hit) for hit in decision.fired):
                return step, decision
    return None


def _answerable(
    memory: Any, scope: Scope, parts: Sequence[Part], threshold: float, namespace: str | None
) -> list[Part]:
    """Return the parts for which the subject of some edit can stand, so that it answers the rest; the surest first."""
    encoder = memory.encoder
    rows = memory.candidates(
        encoder.encode_tokens([part.answered(_PLACE) for part in parts]), k=_NEAREST, namespace=namespace
    )
    pairs = [
        (part, found) for part, row in zip(parts, rows, strict=True) for found in row if _can_stand(found.edit.subject)
    ]
    if not pairs:
        return []
    texts = [part.answered(found.edit.subject or "") for part, found in pairs]
    asked = [
        [Candidate(found.edit, found.similarity, first_places(text, [found.edit]).get(found.edit.id))]
        for text, (_, found) in zip(texts, pairs, strict=True)
    ]
    decisions = scope.decide(encoder.encode_tokens(texts), asked, threshold=threshold)
    scores: dict[Part, float] = {}
    for (part, _), decision in zip(pairs, decisions, strict=True):
        for hit in decision.fired:
            scores[part] = max(scores.get(part, 0.0), hit.score)
    return sorted(scores, key=lambda part: -scores[part])


def _can_stand(subject: str | None) -> bool:
    return bool(subject) and len(subject or "") <= _SAID


def _named(said: str) -> str:
    """Return the first words that a model says, up to where its sentence ends."""
    line = said.strip().split("\n")[0]
    return re.split(r"[.;:!?](?:\s|$)|,\s", line, maxsplit=1)[0].strip(" \"'*,")[:_SAID]


def _about(step: BaseStep, hit: Hit) -> bool:
    """Say whether an edit is about what the model named."""
    return _stands(hit.edit, step.value) and not _stands(hit.edit, step.part.text)


def _stands(edit: Edit, text: str) -> bool:
    return bool(edit.subject) and f" {folded_text(edit.subject or '')} " in f" {folded_text(text)} "
