"""Which questions a chain of edits answers, and the decision that is made of it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

import numpy as np

from memedit.encoders import split_long, split_sentences
from memedit.errors import InputError
from memedit.index import SubjectIndex
from memedit.runtime.chains.composing import as_one_edit, composed, hop_text
from memedit.runtime.chains.linking import Chain, linked_chains
from memedit.scope.base import Scope
from memedit.scope.identity import is_blocked
from memedit.scope.judge.places import masked
from memedit.types import Candidate, ChainHop, ChainPolicy, Edit, Encoding, FloatArray, Hit, ScopeDecision

_COSINE = 10.0
"""Weight of the cosine between question and composed text, subject masked in both, beside the scope's logit."""
_MARGIN = 2.3
"""By so much a chain has to be better than the best single edit. On the development half of fact consolidation, 123
questions for one edit that has links stay 1.0 below it, and 152 questions for several come 1.1 or more above it."""
_LEAST = 9.0
"""A chain has to fit its question at least so well: on the same data 98 in 100 of the right chains do. Of 3,100 prompts
of other data sets (CounterFact's edit, other-words and locality prompts in a memory of 4,000 of its edits and all facts
of the above, KnowEdit's and zsRE's) one had a chain of any fit, at 7.4."""
_HOP = 1.4
"""By so much a further hop has to improve the fit: of two chains one of which goes on where the other ends, the longer
one is right on that data where it is better by 1.55 or more (90 pairs), and wrong where by 1.26 or less (37 pairs)."""
_FAR = 0.06
"""Where an edit fires and every chain's cosine is lower by so much, no chain is judged: lower by 0.04 at most where
a chain is right on that data, by 0.05 in the median where a single edit is."""
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
        return self.fit - _HOP * len(self.chain)


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
    (:mod:`~memedit.runtime.chains.composing`) and judged by the scope, all chains of a question in one batch.

    Args:
        memory: the edit memory.
        namespace: the memory's namespace to look in; None is the memory's own. A chain never leaves it.
        policy: see :data:`ChainPolicy`.
    """

    def __init__(self, memory: Any, *, namespace: str | None, policy: ChainPolicy) -> None:
        self._memory, self._namespace, self._policy = memory, namespace, policy

    def applies(self, scope: Scope) -> bool:
        """Whether questions are looked up along chains under this scope."""
        return self._policy == "on" or (self._policy == "auto" and scope.name == "classifier")

    def decide(self, scope: Scope, query: str, alone: ScopeDecision, threshold: float) -> ScopeDecision:
        """Return the decision on a query: that of its chain, else the one made without.

        Args:
            scope: judges chains as it judges edits.
            query: what is asked.
            alone: the decision made by single edits.
            threshold: what the scope's score of a chain has to reach.
        """
        if any(hit.reasons.get("verbatim") for hit in alone.fired):
            return alone
        subjects = [hit.edit for hit in alone.considered if hit.edit.subject]
        ending = self._memory.are_subjects([edit.target for edit in subjects], namespace=self._namespace)
        if not any(ending):
            return alone
        for text, named in _parts(query, subjects):
            found = self._read(scope, text, named, alone)
            if found is not None and found.hit.score >= threshold and not _blocked(query, found.chain):
                return _chained(alone, found, _asks_yes_or_no(text))
        return alone

    def _read(self, scope: Scope, text: str, named: Sequence[Edit], alone: ScopeDecision) -> _Reading | None:
        """Return the chain that fits a text best, None where a single edit does as well or two chains tie."""
        (encoding,) = self._memory.encoder.encode_tokens([text])
        now = datetime.now(UTC)
        chains = linked_chains(self._memory, named, encoding.vector, namespace=self._namespace, at=now)
        if not chains:
            return None
        ids = {edit.id for edit in named}
        singles = [hit for hit in (*alone.fired, *alone.considered) if hit.edit.id in ids or hit in alone.fired]
        cosines = self._cosines(text, [*((hit.edit,) for hit in singles), *chains])
        if alone.fired and max(cosines[len(singles) :]) < max(cosines[: len(singles)]) - _FAR:
            return None
        best_single = max(_fit(hit.score, cosine) for hit, cosine in zip(singles, cosines[: len(singles)], strict=True))
        readings = self._judged(scope, encoding, chains, cosines[len(singles) :])
        if not readings or readings[0].fit < max(best_single + _MARGIN, _LEAST):
            return None
        rival = next((other for other in readings[1:] if readings[0].rank - other.rank < _TIE), None)
        return None if rival is not None and rival.hit.edit.target != readings[0].hit.edit.target else readings[0]

    def _judged(
        self, scope: Scope, encoding: Encoding, chains: Sequence[Chain], cosines: Sequence[float]
    ) -> list[_Reading]:
        """Return chains with what the scope makes of them, the best first."""
        ones = [as_one_edit(chain) for chain in chains]
        places = _first_places(encoding.text, [chain[0] for chain in chains])
        candidates = [
            Candidate(one, cosine, places.get(chain[0].id))
            for one, chain, cosine in zip(ones, chains, cosines, strict=True)
        ]
        (decision,) = scope.decide([encoding], [candidates], threshold=0.0)
        hits = {hit.edit.content_hash: hit for hit in decision.considered}
        readings = [
            _Reading(chain, hits[one.content_hash], _fit(hits[one.content_hash].score, cosine))
            for one, chain, cosine in zip(ones, chains, cosines, strict=True)
            if one.content_hash in hits
        ]
        return sorted(readings, key=lambda reading: -reading.rank)

    def _cosines(self, text: str, chains: Sequence[Chain]) -> list[float]:
        """Return the cosine of a text and each chain's, with the chain's first subject masked in both."""
        asked = [masked(text, chain[0].subject) for chain in chains]
        told = [masked(composed(chain), chain[0].subject) for chain in chains]
        texts = list(dict.fromkeys([*asked, *told]))
        vectors: dict[str, FloatArray] = dict(zip(texts, self._memory.encoder.encode(texts), strict=True))
        return [float(np.dot(vectors[a], vectors[b])) for a, b in zip(asked, told, strict=True)]


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


def _parts(query: str, edits: Sequence[Edit]) -> list[tuple[str, list[Edit]]]:
    """Return the texts to be read with the edits whose subjects they name: the query, or sentences of a long one."""
    texts = [query] if len(split_long(query)) <= 1 else split_sentences(query)[::-1]
    found = []
    for text in texts:
        named = _first_places(text, edits)
        if named:
            found.append((text, [edit for edit in edits if edit.id in named]))
    return found[:_SENTENCES]


def _first_places(text: str, edits: Sequence[Edit]) -> dict[str, tuple[int, int]]:
    """Return by id of edit where its subject stands first in a text; of nested subjects only the longest stands."""
    finder = SubjectIndex()
    finder.add_many((number, edit.subject or "") for number, edit in enumerate(edits))
    found: dict[str, tuple[int, int]] = {}
    for match in finder.find(text):
        found.setdefault(edits[match.id].id, (match.start, match.end))
    return found


def _blocked(query: str, chain: Chain) -> bool:
    return any(is_blocked(query, edit) for edit in chain)


def _asks_yes_or_no(text: str) -> bool:
    return _YES_NO.match(text) is not None


def _fit(score: float, cosine: float) -> float:
    """Return how well a text fits a question: the scope's logit, and the cosine of both texts."""
    kept = min(max(score, 1e-6), 0.9999)
    return math.log(kept / (1.0 - kept)) + _COSINE * cosine
