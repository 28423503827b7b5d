"""Which edits contradict which: same prompt, or same subject and the same question in other words."""

import functools
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from memedit.encoders.base import Encoder
from memedit.memory.normal import normalise
from memedit.memory.rows import row_edit
from memedit.registry import Registry
from memedit.types import Edit, EditState, FloatArray

CONFLICT_SCORERS: Registry[Callable[[Encoder], "ConflictScorer | None"]] = Registry("conflict scorer")
"""Makers of a scorer for an encoder; None where there is none for it."""
CONFLICT_SCORERS.register("scope", "memedit.scope.conflicts:trained_conflict_scorer")

_RIVALS = 16
"""A new edit is judged beside at most so many others of its subject: those whose masked prompts are the most alike."""
_ALIKE = 0.3
"""Pairs whose masked prompts have a lower cosine are not worth a scorer's look."""
_CACHED_TEXTS = 32_768
_GROUPED, _JUDGED = 2_048, 4_096
"""Members whose masked prompts, and pairs whose texts, are held at once: an import may bring a hundred thousand."""


@runtime_checkable
class ConflictScorer(Protocol):
    """Judges whether two edits about one subject ask the same.

    At or above ``threshold`` they surely do: with another target they contradict each other. From ``doubt`` on they
    perhaps do: both stay in force, and the pair is kept for people to settle.
    """

    threshold: float
    doubt: float

    def scores(self, pairs: Sequence[tuple[Edit, Edit]], encoder: Encoder) -> FloatArray:
        """Score pairs of edits ``[n]``, the same in either order."""


@runtime_checkable
class NotesVectors(Protocol):
    """A scorer that encodes whole prompts, and can tell their vectors to those who need them too."""

    def scores_noting(
        self, pairs: Sequence[tuple[Edit, Edit]], encoder: Encoder, vectors: dict[str, FloatArray]
    ) -> FloatArray:
        """Score pairs as :meth:`ConflictScorer.scores` does, and put the vectors of prompts into ``vectors``."""


def default_scorer(encoder: Encoder) -> ConflictScorer:
    """Return the trained scope's scorer where one ships for ``encoder``, else the one that needs no training."""
    return CONFLICT_SCORERS.get("scope")(encoder) or MaskedPromptScorer()


class MaskedPromptScorer:
    """Cosine of two prompts after each one's subject has been replaced by "this"; for encoders without a trained scope.

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
    doubt = 0.65
    placeholder = "this"

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str], FloatArray] = {}

    def scores(self, pairs: Sequence[tuple[Edit, Edit]], encoder: Encoder) -> FloatArray:
        """Score pairs ``[n]``, in [-1, 1]."""
        edits = list({edit.id: edit for pair in pairs for edit in pair}.values())
        number = {edit.id: i for i, edit in enumerate(edits)}
        vectors = self.vectors([e.prompt for e in edits], [e.subject or "" for e in edits], encoder)
        scores = [float(vectors[number[one.id]] @ vectors[number[other.id]]) for one, other in pairs]
        return np.array(scores, np.float32)

    def vectors(self, prompts: Sequence[str], subjects: Sequence[str], encoder: Encoder) -> FloatArray:
        """Return unit vectors ``[n, d]`` of the masked prompts; each different text is encoded once."""
        masked = [
            mask_subject(prompt, subject, self.placeholder) for prompt, subject in zip(prompts, subjects, strict=True)
        ]
        fingerprint = encoder.fingerprint
        found = {text: self._cache.get((fingerprint, text)) for text in masked}  # another thread may clear the cache
        missing = [text for text, vector in found.items() if vector is None]
        if missing:
            fresh = dict(zip(missing, encoder.encode(missing), strict=True))
            found.update(fresh)
            if len(self._cache) + len(missing) > _CACHED_TEXTS:
                self._cache.clear()
            self._cache.update(((fingerprint, text), vector) for text, vector in fresh.items())
        return np.stack([vector for vector in (found[text] for text in masked) if vector is not None])


def mask_subject(prompt: str, subject: str, placeholder: str) -> str:
    """Replace ``subject`` in ``prompt``, ignoring case and the width of white space."""
    words = r"\s+".join(re.escape(word) for word in subject.split())
    return " ".join(re.sub(words, placeholder, prompt, flags=re.IGNORECASE).split())


@dataclass(slots=True)
class Member:
    """An edit as far as contradictions go: one in the store (``row`` None) or a row of the batch being added.

    ``values`` is its row. ``withdrawn`` marks an edit that the store had retired already; ``alive`` changes while a
    plan is worked out.
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
    values: Mapping[Any, Any]
    seq: int = -1
    row: int | None = None
    withdrawn: bool = False
    alive: bool = True

    @classmethod
    def of(cls, values: Mapping[Any, Any], *, row: int | None = None) -> "Member":
        """Take what is needed from a row of the edits table."""
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
            values,
            values.get("seq", -1),
            row,
            withdrawn,
            not withdrawn,
        )

    @property
    def edit(self) -> Edit:
        """The edit itself."""
        return row_edit(self.values)

    def overlaps(self, other: "Member") -> bool:
        """Whether both hold in the world at some common time."""
        return not (
            (self.invalid_at is not None and other.valid_at is not None and self.invalid_at <= other.valid_at)
            or (other.invalid_at is not None and self.valid_at is not None and other.invalid_at <= self.valid_at)
        )

    def rivals(self, other: "Member") -> bool:
        """Whether both would contradict each other, did they ask the same in other words.

        Two edits of which one blocks the other's prompt have been told apart by hand.
        """
        return (
            self.goal != other.goal
            and self.prompt_hash != other.prompt_hash
            and self.overlaps(other)
            and not (self._blocks(other.prompt) or other._blocks(self.prompt))
        )

    def _blocks(self, prompt: str) -> bool:
        stored = self.values["blocks"]
        return stored != "[]" and normalise(prompt) in map(normalise, json.loads(stored))


@dataclass(frozen=True, slots=True)
class Rival:
    """An earlier member that answers otherwise and asks the same; perhaps so where it is not ``sure``."""

    member: Member
    score: float
    sure: bool


Pairs = dict[int, list[Rival]]
"""By batch row: its rivals."""


class RelationJudge:
    """Finds, for a whole batch at once, the pairs of edits with one subject, one question and two targets.

    Args:
        scorer: scores pairs of edits. None: :func:`default_scorer`, made when first needed.
        threshold: pairs at or above it surely ask the same; None: the scorer's own.
        doubt: pairs from it up to the threshold perhaps ask the same; None: the scorer's own.
        encoder: returns the encoder; called only when there is a pair to judge.
    """

    def __init__(
        self,
        scorer: ConflictScorer | None,
        threshold: float | None,
        doubt: float | None,
        encoder: Callable[[], Encoder],
    ) -> None:
        self._given = scorer
        self._threshold, self._doubt = threshold, doubt
        self._encoder = encoder
        self._masked = MaskedPromptScorer()  # keeps vectors: a subject's earlier prompts come again with every add

    @functools.cached_property
    def _scorer(self) -> ConflictScorer:
        return self._given or default_scorer(self._encoder())

    @property
    def threshold(self) -> float:
        """Pairs at or above it surely ask the same."""
        return self._scorer.threshold if self._threshold is None else self._threshold

    @property
    def doubt(self) -> float:
        """Pairs at or above it, but below the threshold, perhaps ask the same."""
        return min(self._scorer.doubt if self._doubt is None else self._doubt, self.threshold)

    def pairs(
        self, known: Sequence[Member], batch: Sequence[Member], vectors: dict[str, FloatArray] | None = None
    ) -> Pairs:
        """Judge every batch row against the known members and the rows before it.

        ``vectors`` gets the sentence vectors of prompts that are encoded on the way, by text.
        """
        asked = self._all_rivals(_groups(known, batch))
        found: Pairs = {}
        while part := list(itertools.islice(asked, _JUDGED)):
            edits = {id(member): member.edit for pair in part for member in pair}
            scores = self._scores([(edits[id(new)], edits[id(old)]) for new, old in part], vectors)
            for (new, old), score in zip(part, scores.tolist(), strict=True):
                if new.row is not None and score >= self.doubt:
                    found.setdefault(new.row, []).append(Rival(old, score, score >= self.threshold))
        return found

    def _scores(self, pairs: Sequence[tuple[Edit, Edit]], vectors: dict[str, FloatArray] | None) -> FloatArray:
        if vectors is not None and isinstance(self._scorer, NotesVectors):
            return self._scorer.scores_noting(pairs, self._encoder(), vectors)
        return self._scorer.scores(pairs, self._encoder())

    def _all_rivals(self, groups: Sequence[list[Member]]) -> Iterator[tuple[Member, Member]]:
        """Yield the rivals of all groups; the masked prompts of many groups are encoded in one call."""
        for part in _parts(groups):
            members = [member for group in part for member in group]
            prompts, subjects = [m.prompt for m in members], [m.subject or "" for m in members]
            vectors, at = self._masked.vectors(prompts, subjects, self._encoder()), 0
            for group in part:
                yield from self._rivals(group, vectors[at : at + len(group)])
                at += len(group)

    def _rivals(self, group: list[Member], vectors: FloatArray) -> Iterator[tuple[Member, Member]]:
        """Yield each new member with the earlier ones that it may contradict: those worded alike, the nearest first.

        ``vectors [n, d]`` are those of the group's masked prompts.
        """
        for i, new in enumerate(group):
            if new.row is None:
                continue
            alike = vectors[:i] @ vectors[i]
            order = np.argsort(-alike, kind="stable").tolist()
            older = (group[j] for j in order if alike[j] >= _ALIKE and new.rivals(group[j]))
            yield from ((new, old) for old in itertools.islice(older, _RIVALS))


def _parts(groups: Sequence[list[Member]]) -> Iterator[list[list[Member]]]:
    """Cut groups into parts of some thousand members."""
    part: list[list[Member]] = []
    size = 0
    for group in groups:
        if part and size + len(group) > _GROUPED:
            yield part
            part, size = [], 0
        part.append(group)
        size += len(group)
    if part:
        yield part


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
