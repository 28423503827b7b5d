"""What people said of edits that fired, or did not, made into a threshold, blocks and paraphrases.

A single complaint is about one text: it becomes a block or a paraphrase of its edit. When many say the same of the
threshold, and the memory's own texts do not suffer, the threshold moves, and mends texts that nobody has asked yet.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from memedit.errors import ConflictError, EditNotFoundError, InputError
from memedit.memory import EditMemory, Feedback
from memedit.runtime import Router
from memedit.runtime.asked import Asked
from memedit.runtime.calibrated import keep_threshold, kept_threshold
from memedit.scope import Scope
from memedit.types import Edit, EditState, ScopeDecision
from memedit.workflows.open import CANDIDATES
from memedit.workflows.tradeoff import Tradeoff, measure

ENOUGH = 5
"""A threshold moves only when that mends so many verdicts more than it, and the memory's own texts, lose by it."""
_LOWEST, _HIGHEST, _STEP = 0.02, 0.99, 0.01

Action = Literal["none", "threshold", "block", "also", "left"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """A verdict, and what is to be done about it.

    ``score`` is the edit's on the text, None where it was not found for it or another edit covers the same words;
    ``fires`` says whether it fires at the threshold in force. ``action``: none (it is as it should be already),
    threshold (the proposed one mends it), block or also (the text is taught to the edit), left (nothing helps;
    ``reason`` says why).
    """

    verdict: Feedback
    edit: Edit | None
    score: float | None
    fires: bool
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Remedies:
    """What the feedback on a namespace comes to.

    ``threshold`` is in force, ``proposed`` would be. Of the memory's own texts ``caught`` are the shares of paraphrases
    that fire their edit when they are not stored (NaN without any), ``false_fires`` of prompts on which another edit
    fires, each now and as proposed.
    """

    namespace: str
    scope: str
    threshold: float
    proposed: float
    remedies: tuple[Remedy, ...]
    caught: tuple[float, float]
    false_fires: tuple[float, float]

    @property
    def fingerprint(self) -> str:
        """A digest of what would be done, by which one that was looked at is told from a later one."""
        told = [[one.verdict.id, one.action] for one in self.remedies]
        text = json.dumps([self.namespace, self.scope, self.threshold, self.proposed, told])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def propose(
    memory: EditMemory,
    scope: Scope,
    *,
    namespace: str | None = None,
    threshold: float | None = None,
    move: bool = True,
    k: int = CANDIDATES,
) -> Remedies:
    """Work out what mends the open feedback on a namespace; nothing is changed.

    Args:
        memory: has feedback and edits.
        scope: judges.
        namespace: another namespace than the memory's own.
        threshold: in force; None takes the one kept in the memory, else the scope's own.
        move: the threshold may move; not where it is given anew each time, so that none that is kept would count.
        k: vector neighbours looked up for each text.
    """
    space = memory.namespace if namespace is None else namespace
    if threshold is None:
        kept = kept_threshold(memory, scope, namespace=space)
        threshold = scope.threshold if kept is None else kept
    verdicts = memory.feedback.list(namespaces=[space], settled=False)[::-1]
    measured = _Measured(memory, scope, space, threshold, k)
    edits = {edit.id: edit for edit in memory.known([one.edit_id for one in verdicts], namespace=space)}
    scores = measured.scores(verdicts)
    own = measure(memory, scope, space)
    proposed = _threshold(threshold, verdicts, scores, own) if move else threshold
    remedies = [
        measured.remedy(verdict, edits.get(verdict.edit_id), score, proposed)
        for verdict, score in zip(verdicts, scores, strict=True)
    ]
    ends = (threshold, proposed)
    return Remedies(
        namespace=space,
        scope=scope.name,
        threshold=threshold,
        proposed=proposed,
        remedies=tuple(remedies),
        caught=_both([_share(own.right, at) for at in ends]),
        false_fires=_both([_share(own.wrong, at) for at in ends]),
    )


def carry_out(memory: EditMemory, scope: Scope, found: Remedies) -> Remedies:
    """Do what was proposed, and settle the feedback that it settles; return it with what could not be done as left.

    Raises:
        StoreError: something could not be written; what was done until then stays, and its feedback is settled.
    """
    if found.proposed != found.threshold:
        keep_threshold(memory, scope, found.proposed, namespace=found.namespace)
    done: list[Remedy] = []
    for one in found.remedies:
        made = _done(memory, found.namespace, one)
        if made.action != "left":
            memory.feedback.settle({made.verdict.id: made.action})
        done.append(made)
    return replace(found, remedies=tuple(done))


def _done(memory: EditMemory, namespace: str, one: Remedy) -> Remedy:
    teach = {"block": memory.block, "also": memory.also}.get(one.action)
    if teach is None:
        return one
    try:
        teach(one.verdict.edit_id, one.verdict.query, namespace=namespace)
    except (InputError, ConflictError, EditNotFoundError) as error:
        return replace(one, action="left", reason=str(error))
    return one


class _Measured:
    """Looks texts of feedback up, as they were asked and at any threshold."""

    def __init__(self, memory: EditMemory, scope: Scope, namespace: str, threshold: float, k: int) -> None:
        self._memory, self._scope, self._namespace, self._k = memory, scope, namespace, k
        self._threshold = threshold

    def scores(self, verdicts: Sequence[Feedback]) -> list[float | None]:
        """The score of each verdict's edit where it wins the words of the text; which does depends on no threshold."""
        found = self._decided([Asked(one.query, one.earlier) for one in verdicts], 0.0)
        return [
            next((float(hit.score) for hit in decision.fired if hit.edit.id == one.edit_id), None)
            for one, decision in zip(verdicts, found, strict=True)
        ]

    def remedy(self, verdict: Feedback, edit: Edit | None, score: float | None, proposed: float) -> Remedy:
        """What mends a verdict."""
        fires, then = _fires(score, self._threshold), _fires(score, proposed)
        one = Remedy(verdict, edit, score, fires, "none")
        if edit is None or edit.state is EditState.RETIRED:
            return replace(one, action="left", reason="the edit is withdrawn")
        if then == verdict.should_fire:
            return replace(one, action="none" if fires == then else "threshold")
        reason = self._unteachable(verdict, edit)
        if reason:
            return replace(one, action="left", reason=reason)
        return replace(one, action="also" if verdict.should_fire else "block")

    def _unteachable(self, verdict: Feedback, edit: Edit) -> str:
        """Why a text cannot be taught to an edit; empty when it can."""
        if not verdict.earlier:
            return ""
        if verdict.should_fire:
            named = bool(edit.subject) and str(edit.subject).casefold() in verdict.query.casefold()
            return "" if named else "the text says what is meant only with the talk before it"
        alone = self._decided([Asked(verdict.query)], self._threshold)[0]
        if any(hit.edit.id == edit.id for hit in alone.fired):
            return ""
        return "it fires by the talk before the text, which no block of the text can prevent"

    def _decided(self, asked: Sequence[Asked], threshold: float) -> list[ScopeDecision]:
        router = Router(self._memory, self._scope, namespace=self._namespace, k=self._k, threshold=threshold)
        return router.decide(asked) if asked else []


def _threshold(now: float, verdicts: Sequence[Feedback], scores: Sequence[float | None], own: Tradeoff) -> float:
    """The threshold that mends most verdicts for what it costs on the memory's own texts; the present one unless that
    mends :data:`ENOUGH` more than it costs. Of equally good ones the nearest to the present."""
    judged = [(score, one.should_fire) for score, one in zip(scores, verdicts, strict=True) if score is not None]
    values = sorted({score for score, _ in judged})
    between = [(low + high) / 2 for low, high in pairwise(values)]
    edges = [value + step for value in values[:1] + values[-1:] for step in (-_STEP, _STEP)]
    tried = [at for at in (*between, *edges) if _LOWEST <= at <= _HIGHEST]

    def complaints(at: float) -> int:
        return sum((score >= at) != should for score, should in judged)

    def harm(at: float) -> int:
        return sum(score < at for score in own.right) + sum(score >= at for score in own.wrong)

    def gain(at: float) -> int:
        return complaints(now) - complaints(at) - max(0, harm(at) - harm(now))

    best = max(tried, key=lambda at: (gain(at), -abs(at - now)), default=now)
    return round(best, 4) if gain(best) >= ENOUGH else now


def _fires(score: float | None, threshold: float) -> bool:
    return score is not None and score >= threshold


def _share(scores: Sequence[float], threshold: float) -> float:
    return float(np.mean(np.asarray(scores) >= threshold)) if len(scores) else float("nan")


def _both(pair: Sequence[float]) -> tuple[float, float]:
    return pair[0], pair[1]
