"""Who answers each row: look-up, scope, and the plan for a batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memedit.consolidation.held import EditsInWeights
from memedit.errors import InputError
from memedit.runtime.asked import Asked
from memedit.runtime.chains import BaseSays, ChainLookup, check_chains
from memedit.runtime.lazy import LazyAdapter, LazyScope
from memedit.runtime.passages import decide_parts, joined, no_match
from memedit.scope.base import PreparesEdits, Scope
from memedit.types import BatchPlan, Edit, EditState, Route, ScopeDecision

if TYPE_CHECKING:
    from memedit.memory import EditMemory

_TURN_CHARS = 600
"""So much of a last turn decides which edits of a subject are looked at first."""


class Router:
    """Decides for queries which stored edits apply.

    Every part of a long query is looked up (:mod:`~memedit.runtime.passages`).

    Args:
        memory: the edit memory.
        scope: judges what is found; a lazy one is opened when there is something to judge, never before.
        namespace: the memory's namespace to look in; None is the memory's own.
        k: vector neighbours fetched for each part.
        threshold: overrides the scope's own.
        in_weights: edits that the model answers from its weights. They are looked up and judged like the others, so
            that no edit near them takes their place and people can see why an answer is as it is, but do not fire in
            words that the weights were seen to answer rightly. Talks and, where only rows with such edits meet the
            weights, questions on which several edits fire stay with the memory: nobody has asked the weights these.
        chains: whether queries are looked up along chains of edits too, see
            :data:`~memedit.types.ChainPolicy`. What a chain ends with fires even where the weights know it:
            they were shown to answer its own question, not this one.

    Raises:
        InputError: no such policy.
    """

    def __init__(
        self,
        memory: "EditMemory",
        scope: Scope | LazyScope,
        *,
        namespace: str | None = None,
        k: int = 8,
        threshold: float | None = None,
        in_weights: EditsInWeights | None = None,
        chains: str = "off",
    ) -> None:
        self._memory, self._scope, self._in_weights = memory, scope, in_weights or EditsInWeights()
        self._namespace, self._k, self._threshold = namespace, k, threshold
        self._chains = ChainLookup(memory, namespace=namespace, policy=check_chains(chains))
        self._counted: tuple[int, bool] | None = None

    def nothing_stored(self) -> bool:
        """Whether no edit is in force; costs one look at the store's change counter."""
        revision = int(self._memory.revision)
        if self._counted is None or self._counted[0] != revision:
            states = (EditState.ACTIVE, EditState.CONSOLIDATED)
            stored = any(self._memory.count(state=state, namespace=self._namespace) for state in states)
            self._counted = (revision, not stored)
        return self._counted[1]

    def decide(
        self,
        queries: Sequence[str | Asked],
        *,
        chats: Sequence[bool] | None = None,
        base: BaseSays | None = None,
    ) -> list[ScopeDecision]:
        """Return one decision a query, in order; all parts of all queries go through the encoder together.

        Args:
            queries: what is asked.
            chats: which are asked as chat turns; without it edits that the weights answer in plain text only are left
                to the memory.
            base: asks the bare model for the first hop of a chain that no edit holds.
        """
        asked = [Asked(query) if isinstance(query, str) else query for query in queries]
        if not any(one.text.strip() for one in asked) or self.nothing_stored():
            return [no_match(one.text) for one in asked]
        scope, bar = self._judging()
        found = self._alone(scope, [one.text for one in asked], bar)
        found = self._with_talks(scope, asked, found, bar)
        found = [
            self._chained(scope, one.text, alone, bar, base) if self._chains.applies(scope, one.chains) else alone
            for one, alone in zip(asked, found, strict=True)
        ]
        forms = [True] * len(asked) if chats is None else chats
        return [self._served(one, query, chat) for one, query, chat in zip(found, asked, forms, strict=True)]

    def decide_spoken(self, texts: Sequence[str], *, chat: bool) -> list[ScopeDecision]:
        """Return one decision a text of an answer that is being written, in order: by single edits alone."""
        if self.nothing_stored() or not any(text.strip() for text in texts):
            return [no_match(text) for text in texts]
        scope, bar = self._judging()
        found = self._alone(scope, texts, bar)
        if self._in_weights.gated:  # the answer is being written on weights that do not change any more
            return found
        return [self._served(one, Asked(text), chat) for one, text in zip(found, texts, strict=True)]

    def _judging(self) -> tuple[Scope, float]:
        """Return the scope and the score from which on an edit fires."""
        scope = self._scope.get() if isinstance(self._scope, LazyScope) else self._scope
        return scope, scope.threshold if self._threshold is None else self._threshold

    def _alone(self, scope: Scope, texts: Sequence[str], threshold: float) -> list[ScopeDecision]:
        """Decide for texts by single edits."""
        return decide_parts(texts, lambda parts, least: self._judge(scope, parts, least), threshold=threshold)

    def _chained(
        self, scope: Scope, text: str, alone: ScopeDecision, threshold: float, base: BaseSays | None
    ) -> ScopeDecision:
        """Decide for a text by chains of edits where one fits."""
        return self._chains.decide(
            scope, text, alone, threshold, again=lambda left: self._alone(scope, [left], threshold)[0], base=base
        )

    def _with_talks(
        self, scope: Scope, asked: Sequence[Asked], found: Sequence[ScopeDecision], threshold: float
    ) -> list[ScopeDecision]:
        """Judge the last turns of talks once more, as what they refer to in the turns before them."""
        talks = [i for i, one in enumerate(asked) if one.earlier and one.text.strip()]
        if not talks or not getattr(scope, "reads_talks", False):
            return list(found)
        last = self._memory.encoder.encode_tokens([asked[i].text[:_TURN_CHARS] for i in talks])
        told = [replace(encoding, text=asked[i].talk) for i, encoding in zip(talks, last, strict=True)]
        candidates = self._memory.candidates(told, k=self._k, namespace=self._namespace)
        read = dict(zip(talks, scope.decide(told, candidates, threshold=threshold), strict=True))
        return [joined(one, read[i]) if i in read else one for i, one in enumerate(found)]

    def _judge(self, scope: Scope, texts: Sequence[str], threshold: float) -> list[ScopeDecision]:
        """Look each text up and judge what is found, all in one batch."""
        encodings = self._memory.encoder.encode_tokens(texts)
        candidates = self._memory.candidates(encodings, k=self._k, namespace=self._namespace)
        self._recall(scope, [candidate.edit for row in candidates for candidate in row])
        return scope.decide(encodings, candidates, threshold=threshold)

    def _served(self, decision: ScopeDecision, asked: Asked, chat: bool) -> ScopeDecision:
        """Take from what fired the edits that the weights answer."""
        known = self._in_weights
        if decision.chain or not len(known) or (known.gated and (asked.earlier or len(decision.fired) > 1)):
            return decision
        held = tuple(hit for hit in decision.fired if known.answer(hit.edit, asked.text, chat=chat))
        if not held:
            return decision
        return replace(decision, fired=tuple(hit for hit in decision.fired if hit not in held), in_weights=held)

    def _recall(self, scope: Scope, edits: Sequence[Edit]) -> None:
        """Give the scope what the memory keeps for it of edits that it does not know yet."""
        if isinstance(scope, PreparesEdits) and (unknown := scope.missing(edits)):
            ids = [edit.id for edit in unknown]
            scope.accept(self._memory.get_artefacts(scope.name, scope.fingerprint, ids, namespace=self._namespace))

    def plan(
        self,
        queries: Sequence[str | Asked],
        adapter: LazyAdapter,
        *,
        chats: Sequence[bool] | None = None,
        base: BaseSays | None = None,
    ) -> BatchPlan:
        """Return the plan for a batch as :meth:`decide` decides; ``adapter`` is made only if an edit fires."""
        decisions = self.decide(queries, chats=chats, base=base)
        return BatchPlan(
            tuple(
                Route(row=row, decision=decision, adapter=adapter.get().name if decision.fired else None)
                for row, decision in enumerate(decisions)
            )
        )


def part_of(plan: BatchPlan, start: int, stop: int) -> BatchPlan:
    """Return the plan of rows ``start`` to ``stop`` of a batch, as a batch of its own.

    Raises:
        InputError: the plan has fewer rows.
    """
    routes = plan.routes[start:stop]
    if len(routes) != stop - start:
        raise InputError(f"a plan for {len(plan.routes)} rows does not fit these prompts; plan them together")
    return BatchPlan(tuple(replace(route, row=row) for row, route in enumerate(routes)))
