"""Which edits contradict which: same prompt, or same subject and the same relation in other words."""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from memedit.encoders.base import Encoder
from memedit.memory.normal import normalise
from memedit.registry import Registry
from memedit.types import EditState, FloatArray

ConflictScorer = Callable[[str, str, str, Encoder], float]
"""``(new_prompt, old_prompt, subject, encoder) -> score``: how surely two prompts about ``subject`` ask the same."""

CONFLICT_SCORERS: Registry[Callable[[Encoder], "PairScorer | None"]] = Registry("conflict scorer")
"""Makers of a scorer for an encoder; None where there is none for it."""
CONFLICT_SCORERS.register("scope", "memedit.scope.conflicts:trained_conflict_scorer")

_RIVALS = 16
"""A pair scorer judges a new edit beside at most so many others of its subject: the most similar."""
_PLAUSIBLE = 0.55
"""Pairs whose masked prompts have a lower cosine are no contradictions: the trained scope alone calls too many pairs of
made-up facts about one subject the same relation."""
_BLOCK = 512
_CACHED_TEXTS = 50_000


@runtime_checkable
class BatchScorer(Protocol):
    """A conflict scorer whose score is the inner product of one vector per prompt, so that many pairs are cheap."""

    def vectors(self, prompts: Sequence[str], subjects: Sequence[str], encoder: Encoder) -> FloatArray:
        """Return unit vectors ``[n, d]``, one per prompt."""


@runtime_checkable
class PairScorer(Protocol):
    """A conflict scorer that judges many pairs at once, more closely than by one product of vectors."""

    threshold: float

    def scores(self, pairs: Sequence[tuple[str, str, str]], encoder: Encoder) -> FloatArray:
        """Score pairs ``(new_prompt, old_prompt, subject)`` ``[n]``."""


def default_scorer(encoder: Encoder) -> "PairScorer | MaskedPromptScorer":
    """Return the trained scope's scorer where one ships for ``encoder``, else the one that needs no training."""
    return CONFLICT_SCORERS.get("scope")(encoder) or MaskedPromptScorer()


class MaskedPromptScorer:
    """Cosine of two prompts after their common subject has been replaced by "this".

    At the threshold, MiniLM (all-MiniLM-L6-v2), share of pairs taken for the same relation:

    * to be found: 82% of 207 pairs of CounterFact edits with one subject and one true object in different words
      (161 of them about twin cities); 66% of 1,500 zsRE and 76% of 1,500 WikiBigEdit rephrased questions; only
      2% of CounterFact's own rephrasings, which share hardly a word with their prompts;
    * to be left alone: 0 of 1,656 KnowEdit questions about another relation of the same subject; 2% of 227 pairs of
      CounterFact edits with one subject and other true objects.

    A missed contradiction leaves two edits in force; a false one withdraws a true edit. The threshold is set for few of
    the latter.
    """

    threshold = 0.75
    placeholder = "this"

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str], FloatArray] = {}

    def __call__(self, new_prompt: str, old_prompt: str, subject: str, encoder: Encoder) -> float:
        """Score one pair, in [-1, 1]."""
        new, old = self.vectors([new_prompt, old_prompt], [subject, subject], encoder)
        return float(new @ old)

    def vectors(self, prompts: Sequence[str], subjects: Sequence[str], encoder: Encoder) -> FloatArray:
        """Return unit vectors ``[n, d]`` of the masked prompts; each different text is encoded once."""
        masked = [
            mask_subject(prompt, subject, self.placeholder) for prompt, subject in zip(prompts, subjects, strict=True)
        ]
        fingerprint = encoder.fingerprint
        missing = list(dict.fromkeys(text for text in masked if (fingerprint, text) not in self._cache))
        if len(self._cache) + len(missing) > _CACHED_TEXTS:
            self._cache.clear()
            missing = list(dict.fromkeys(masked))
        fresh = encoder.encode(missing)
        self._cache.update(((fingerprint, text), vector) for text, vector in zip(missing, fresh, strict=True))
        return np.stack([self._cache[fingerprint, text] for text in masked])


def mask_subject(prompt: str, subject: str, placeholder: str) -> str:
    """Replace ``subject`` in ``prompt``, ignoring case and the width of white space."""
    words = r"\s+".join(re.escape(word) for word in subject.split())
    return " ".join(re.sub(words, placeholder, prompt, flags=re.IGNORECASE).split())


@dataclass(slots=True)
class Member:
    """An edit as far as contradictions go: one in the store (``row`` None) or a row of the batch being added.

    ``withdrawn`` marks an edit that the store had retired already; ``alive`` changes while a plan is worked out.
    """

    id: str
    prompt: str
    target: str
    subject: str | None
    content_hash: str
    prompt_hash: int
    subject_hash: int | None
    valid_at: int | None
    invalid_at: int | None
    goal: str
    seq: int = -1
    row: int | None = None
    withdrawn: bool = False
    alive: bool = True

    @classmethod
    def of(cls, values: Mapping[Any, Any], *, row: int | None = None) -> "Member":
        """Take the fields needed from a row of the edits table."""
        withdrawn = values["state"] == EditState.RETIRED
        return cls(
            values["id"],
            values["prompt"],
            values["target"],
            values["subject"],
            values["content_hash"],
            values["prompt_hash"],
            values["subject_hash"],
            values["valid_at"],
            values["invalid_at"],
            normalise(values["target"]),
            values.get("seq", -1),
            row,
            withdrawn,
            not withdrawn,
        )

    def overlaps(self, other: "Member") -> bool:
        """Whether both hold in the world at some common time."""
        return not (
            (self.invalid_at is not None and other.valid_at is not None and self.invalid_at <= other.valid_at)
            or (other.invalid_at is not None and self.valid_at is not None and other.invalid_at <= self.valid_at)
        )


Pairs = dict[int, list[tuple[Member, float]]]
"""By batch row: the earlier members that ask the same about the same subject and answer otherwise, with scores."""


class RelationJudge:
    """Finds, for a whole batch at once, the pairs of edits with one subject, one relation and two targets.

    Args:
        scorer: scores a pair of prompts; a :class:`BatchScorer` is asked for vectors once per batch, a
            :class:`PairScorer` for all pairs at once. None: :func:`default_scorer`, made when first needed.
        threshold: pairs at or above it have the same relation; None: the scorer's own.
        encoder: returns the encoder; called only when there is a pair to judge.
    """

    def __init__(
        self,
        scorer: ConflictScorer | PairScorer | None,
        threshold: float | None,
        encoder: Callable[[], Encoder],
    ) -> None:
        self._given = scorer
        self._threshold = threshold
        self._encoder = encoder
        self._masked = MaskedPromptScorer()  # keeps vectors: a subject's earlier prompts come again with every add

    @functools.cached_property
    def _scorer(self) -> Any:
        return self._given or default_scorer(self._encoder())

    @property
    def threshold(self) -> float:
        """Pairs at or above it have the same relation."""
        return float(getattr(self._scorer, "threshold", 0.5)) if self._threshold is None else self._threshold

    def pairs(self, known: Sequence[Member], batch: Sequence[Member]) -> Pairs:
        """Judge every batch row against the known members and the rows before it."""
        groups = self._groups(known, batch)
        if not groups:
            return {}
        if isinstance(self._scorer, BatchScorer):
            return self._pairs_by_vectors(groups)
        if isinstance(self._scorer, PairScorer):
            return self._pairs_at_once(self._scorer, groups)
        return self._pairs_one_by_one(groups)

    @staticmethod
    def _groups(known: Sequence[Member], batch: Sequence[Member]) -> list[list[Member]]:
        """Members that share a subject, where a batch row is among them and targets and prompts differ."""
        by_subject: dict[int, list[Member]] = defaultdict(list)
        for member in batch:
            if member.subject_hash is not None:
                by_subject[member.subject_hash].append(member)
        older: dict[int, list[Member]] = defaultdict(list)
        for member in known:
            if not member.withdrawn and member.subject_hash is not None and member.subject_hash in by_subject:
                older[member.subject_hash].append(member)
        return [
            group
            for group in (older[subject] + newer for subject, newer in by_subject.items())
            if len(group) > 1 and len({m.goal for m in group}) > 1 and len({m.prompt_hash for m in group}) > 1
        ]

    def _pairs_by_vectors(self, groups: list[list[Member]]) -> Pairs:
        assert isinstance(self._scorer, BatchScorer)
        flat = [member for group in groups for member in group]
        vectors = self._scorer.vectors([m.prompt for m in flat], [m.subject or "" for m in flat], self._encoder())
        pairs: Pairs = {}
        start = 0
        for group in groups:
            self._judge_group(group, vectors[start : start + len(group)], pairs)
            start += len(group)
        return pairs

    def _judge_group(self, group: list[Member], vectors: FloatArray, pairs: Pairs) -> None:
        """Score a group's rows in blocks; only pairs at the threshold are ever looked at one by one."""
        first_new = next(i for i, member in enumerate(group) if member.row is not None)
        for start in range(first_new, len(group), _BLOCK):
            scores = vectors[start : start + _BLOCK] @ vectors.T
            for i, j in zip(*np.nonzero(scores >= self.threshold), strict=True):
                new, old = group[start + int(i)], group[int(j)]
                if int(j) < start + int(i):
                    _note(pairs, new, old, float(scores[i, j]))

    def _pairs_at_once(self, scorer: PairScorer, groups: list[list[Member]]) -> Pairs:
        flat = [member for group in groups for member in group]
        masked = self._masked.vectors([m.prompt for m in flat], [m.subject or "" for m in flat], self._encoder())
        asked, start = [], 0
        for group in groups:
            asked += list(_rivals(group, masked[start : start + len(group)]))
            start += len(group)
        texts = [(new.prompt, old.prompt, new.subject or "") for new, old in asked]
        pairs: Pairs = {}
        for (new, old), score in zip(asked, scorer.scores(texts, self._encoder()), strict=True):
            if score >= self.threshold:
                _note(pairs, new, old, float(score))
        return pairs

    def _pairs_one_by_one(self, groups: list[list[Member]]) -> Pairs:
        encoder = self._encoder()
        pairs: Pairs = {}
        for group in groups:
            for i, new in enumerate(group):
                for old in group[:i] if new.row is not None else ():
                    if new.goal != old.goal and new.prompt_hash != old.prompt_hash:
                        score = float(self._scorer(new.prompt, old.prompt, new.subject or "", encoder))
                        if score >= self.threshold:
                            _note(pairs, new, old, score)
        return pairs


def _rivals(group: list[Member], vectors: FloatArray) -> Iterator[tuple[Member, Member]]:
    """Yield each new member with the earlier ones whose masked prompt is like its own; of very many the nearest."""
    for i, new in enumerate(group):
        if new.row is None:
            continue
        similarity = vectors[:i] @ vectors[i]
        nearest = np.argsort(-similarity, kind="stable")
        older = [j for j in nearest.tolist() if group[j].goal != new.goal and group[j].prompt_hash != new.prompt_hash]
        yield from ((new, group[j]) for j in older[:_RIVALS] if similarity[j] >= _PLAUSIBLE)


def _note(pairs: Pairs, new: Member, old: Member, score: float) -> None:
    """Record a pair when it is a contradiction that the prompt's hash does not show already."""
    if new.row is not None and new.goal != old.goal and new.prompt_hash != old.prompt_hash and new.overlaps(old):
        pairs.setdefault(new.row, []).append((old, score))
