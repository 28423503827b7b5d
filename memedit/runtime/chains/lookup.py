"""Which questions a chain of edits answers, and the decision that is made of it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

from memedit.encoders import split_long, split_sentences
from memedit.errors import InputError
from memedit.runtime.chains.composing import as_one_edit, hop_text
from memedit.runtime.chains.first_hop import BaseSays, BaseStep, base_step
from memedit.runtime.chains.kinds import oversteps
from memedit.runtime.chains.linking import MAX_HOPS, Chain, linked_chains
from memedit.runtime.chains.reading import cosines, first_places, fit
from memedit.runtime.chains.stepping import InnerStep, inner_step
from memedit.scope.base import Scope
from memedit.scope.identity import is_blocked
from memedit.types import Candidate, ChainHop, ChainPolicy, Edit, Encoding, Hit, ScopeDecision

_HOP = 0.5
"""By so much a further hop has to improve the fit: of two chains one of which goes on where the other ends."""
_MARGIN = 0.5
"""By so much the best chain, less the cost of its further hops, has to be better than the best single edit: questions
for one edit that has links stay 0.3 below it (n = 135), and 140 of 153 for several come 1.2 or more above it."""
_LEAST = 14.0
"""A chain has to fit its question at least so well; no right one fits worse."""
_FAR = 0.1
"""Where an edit fires and every chain's cosine is lower by so much, no chain is judged."""
_TIE = 1e-3
_SENTENCES = 4
"""Of a text that is longer than the encoder reads, so many of the last sentences that name a subject are looked at."""
_YES_NO = re.compile(r"\s*(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should)\b", re.IGNORECASE)
_SAID = 0.9
"""Probability that a chain's last target is what is asked for, unless the question can be answered by yes or no."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A chain beside a question: its edits, the hit that the scope made of it, and how well both fit together."""

    chain: Chain
    hit: Hit
    fit: float

    @property
    def rank(self) -> float:
        """Its fit, less what its hops cost."""
        return self.fit - _HOP * (len(self.chain) - 1)


def check_chains(policy: str) -> ChainPolicy:
    """Return a policy of chained look-up.

    Raises:
        InputError: there is none of this name.
    """
    if policy not in get_args(ChainPolicy):
        raise InputError(f"chains={policy!r} is none of {', '.join(get_args(ChainPolicy))}")
    return cast(ChainPolicy, policy)


class ChainLookup:
    """Finds the chain of edits that a question runs through, where it fits the question better than any single edit.

    Candidates come by links: the subject index of the memory, looked up by the targets of the edits whose subject the
    question names. Where none of these is a subject, that is all that is done. Each chain is read as one edit
    (:mod:`~memedit.runtime.chains.composing`) and judged by the scope, all chains of a question in one batch. Where
    none fits, an edit may answer a part of the question (:mod:`~memedit.runtime.chains.inner`): its target is put in
    the part's place, and what is left is looked up anew, or is the model's to answer. Where no edit fires at all the
    model may answer such a part (:mod:`~memedit.runtime.chains.first_hop`).

    Args:
        memory: the edit memory.
        namespace: the memory's namespace to look in; None is the memory's own. A chain never leaves it.
        policy: see :data:`ChainPolicy`.
    """

    def __init__(self, memory: Any, *, namespace: str | None, policy: ChainPolicy) -> None:
        self._memory, self._namespace, self._policy = memory, namespace, policy

    def applies(self, scope: Scope, policy: ChainPolicy | None = None) -> bool:
        """Whether questions are looked up along chains under this scope; ``policy`` takes the place of the own one."""
        policy = policy or self._policy
        return policy == "on" or (policy == "auto" and scope.name == "classifier")

    def decide(
        self,
        scope: Scope,
        query: str,
        alone: ScopeDecision,
        threshold: float,
        *,
        again: Callable[[str], ScopeDecision],
        base: BaseSays | None = None,
        hops: int = MAX_HOPS,
    ) -> ScopeDecision:
        """Return the decision on a query: that of its chain, else the one made without.

        Args:
            scope: judges chains as it judges edits.
            query: what is asked.
            alone: the decision made by single edits.
            threshold: what the scope's score of a chain has to reach.
            again: makes that decision of another question.
            base: asks the bare model for a first hop that no edit holds; without it none is looked for.
            hops: so many a chain may have.
        """
        if any(hit.reasons.get("verbatim") for hit in alone.fired):
            return alone
        subjects = [hit.edit for hit in alone.considered if hit.edit.subject]
        ending = self._memory.are_subjects([edit.target for edit in subjects], namespace=self._namespace)
        for text, named in _parts(query, subjects):
            found = self._read(scope, text, named, alone) if any(ending) else []
            if len(found) > 1 or any(_blocked(query, reading.chain) for reading in found):
                return alone
            if found and found[0].hit.score >= threshold:
                return _chained(alone, found[0], _asks_yes_or_no(text))
            step = inner_step(self._memory.encoder, scope, text, named, alone) if hops > 1 else None
            if step is not None:
                rest = self.decide(scope, step.left, again(step.left), threshold, again=again, hops=hops - 1)
                return _stepped(alone, step, rest, (query, text))
        if base is None or alone.fired or hops == 1:
            return alone
        return self._from_base(scope, query, alone, threshold, again=again, base=base)

    def _from_base(
        self,
        scope: Scope,
        query: str,
        alone: ScopeDecision,
        threshold: float,
        *,
        again: Callable[[str], ScopeDecision],
        base: BaseSays,
    ) -> ScopeDecision:
        """Return the decision on a query whose first hop the model answers, the one made without where it does not."""
        if len(split_long(query)) > 1:
            return alone
        found = base_step(self._memory, scope, query, threshold, namespace=self._namespace, says=base, again=again)
        if found is None:
            return alone
        step, decision = found
        rest = self.decide(scope, step.left, decision, threshold, again=again, hops=MAX_HOPS - 1)
        return alone if _blocked(query, [hit.edit for hit in rest.fired]) else _told_by_base(alone, step, rest)

    def _read(self, scope: Scope, text: str, named: Sequence[Edit], alone: ScopeDecision) -> list[_Reading]:
        """Return the chain that fits a text best and those that tie with it; none where a single edit does as well."""
        (encoding,) = self._memory.encoder.encode_tokens([text])
        now = datetime.now(UTC)
        linked = linked_chains(self._memory, named, encoding.vector, namespace=self._namespace, at=now)
        chains = [chain for chain in linked if not oversteps(text, chain)]
        if not chains:
            return []
        ids = {edit.id for edit in named}
        singles = [hit for hit in (*alone.fired, *alone.considered) if hit.edit.id in ids or hit in alone.fired]
        near = cosines(self._memory.encoder, [(text, chain) for chain in (*((hit.edit,) for hit in singles), *chains)])
        if alone.fired and max(near[len(singles) :]) < max(near[: len(singles)]) - _FAR:
            return []
        best_single = max(fit(hit.score, cosine) for hit, cosine in zip(singles, near[: len(singles)], strict=True))
        readings = self._judged(scope, encoding, chains, near[len(singles) :])
        if not readings or readings[0].rank < best_single + _MARGIN or readings[0].fit < _LEAST:
            return []
        best = readings[0]
        rivals = [other for other in readings[1:] if best.rank - other.rank < _TIE]
        return [best, *(other for other in rivals if other.hit.edit.target != best.hit.edit.target)]

    def _judged(
        self, scope: Scope, encoding: Encoding, chains: Sequence[Chain], near: Sequence[float]
    ) -> list[_Reading]:
        """Return chains with what the scope makes of them, the best first."""
        ones = [as_one_edit(chain) for chain in chains]
        places = first_places(encoding.text, [chain[0] for chain in chains])
        candidates = [
            Candidate(one, cosine, places.get(chain[0].id))
            for one, chain, cosine in zip(ones, chains, near, strict=True)
        ]
        (decision,) = scope.decide([encoding], [candidates], threshold=0.0)
        hits = {hit.edit.content_hash: hit for hit in decision.considered}
        readings = [
            _Reading(chain, hits[one.content_hash], fit(hits[one.content_hash].score, cosine))
            for one, chain, cosine in zip(ones, chains, near, strict=True)
            if one.content_hash in hits
        ]
        return sorted(readings, key=lambda reading: -reading.rank)


def _chained(alone: ScopeDecision, found: _Reading, yes_no: bool) -> ScopeDecision:
    """Return the decision that a chain answers: its last edit fires or, where yes or no is asked, all its edits."""
    last = found.chain[-1]
    reasons = {**found.hit.reasons, "hops": float(len(found.chain)), "fit": found.fit}
    said = found.hit.target_probability if yes_no else max(found.hit.target_probability, _SAID)
    hits = tuple(
        Hit(edit, found.hit.score, found.hit.similarity, reasons, said)
        for edit in (reversed(found.chain) if yes_no else (last,))
    )
    fired = {hit.edit.id for hit in hits}
    return replace(
        alone,
        fired=hits,
        considered=(*hits, *(hit for hit in alone.considered if hit.edit.id not in fired)),
        abstained=False,
        chain=tuple(ChainHop(edit.id, hop_text(edit), edit.target) for edit in found.chain),
    )


def _stepped(alone: ScopeDecision, step: InnerStep, rest: ScopeDecision, read: tuple[str, str]) -> ScopeDecision:
    """Return the decision that an edit answers an inner question, and ``rest`` the question that is left.

    Where no edit answers that one the model does. ``read`` are the query and the part of it that was read.
    """
    query, text = read
    if _blocked(query, [hit.edit for hit in rest.fired]):
        return alone
    last = ChainHop("", step.left, "")
    answering = rest.fired[:1] or (step.hit,)
    if rest.fired:
        edit = rest.fired[0].edit
        last = ChainHop(edit.id, hop_text(edit), edit.target)
    first = ChainHop(step.hit.edit.id, hop_text(step.hit.edit), step.hit.edit.target)
    fired = rest.fired if rest.chain else answering
    shown = {hit.edit.id: hit for hit in (*fired, step.hit)}
    return replace(
        alone,
        fired=fired,
        considered=(*shown.values(), *(hit for hit in alone.considered if hit.edit.id not in shown)),
        abstained=False,
        chain=(first, *(rest.chain or (last,))),
        asked=query.replace(text, rest.asked or step.left, 1),
    )


def _told_by_base(alone: ScopeDecision, step: BaseStep, rest: ScopeDecision) -> ScopeDecision:
    """Return the decision that the model answers an inner question, and ``rest`` the question that is left."""
    edit = rest.fired[0].edit
    fired = {hit.edit.id for hit in rest.fired}
    return replace(
        alone,
        fired=rest.fired,
        considered=(*rest.fired, *(hit for hit in alone.considered if hit.edit.id not in fired)),
        abstained=False,
        chain=(
            ChainHop("", step.part.asked, step.value),
            *(rest.chain or (ChainHop(edit.id, hop_text(edit), edit.target),)),
        ),
        asked=rest.asked or step.left,
    )


def _parts(query: str, edits: Sequence[Edit]) -> list[tuple[str, list[Edit]]]:
    """Return the texts to be read with the edits whose subjects they name: the query, or sentences of a long one."""
    texts = [query] if len(split_long(query)) <= 1 else split_sentences(query)[::-1]
    found = []
    for text in texts:
        named = first_places(text, edits)
        if named:
            found.append((text, [edit for edit in edits if edit.id in named]))
    return found[:_SENTENCES]


def _blocked(query: str, chain: Sequence[Edit]) -> bool:
    return any(is_blocked(query, edit) for edit in chain)


def _asks_yes_or_no(text: str) -> bool:
    return _YES_NO.match(text) is not None
