"""The frozen values that travel between rooms. No torch, no transformers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memedit.deprecation import renamed

ChainPolicy = Literal["off", "on", "auto"]
"""Whether questions are looked up along chains of edits: never, under every scope, under the trained scope alone."""
FloatArray = NDArray[np.float32]
FloatMatrix = NDArray[np.floating[Any]]


class EditKind(StrEnum):
    """What an edit is for. The prompt of a statement is the whole sentence, its target the part that is the answer."""

    FACT = "fact"
    CORRECTION = "correction"
    REFUSAL = "refusal"
    LONG_FORM = "long-form"
    STATEMENT = "statement"


class EditState(StrEnum):
    """The state of an edit in its life."""

    PENDING = "pending"
    ACTIVE = "active"
    CONSOLIDATED = "consolidated"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class EditDraft:
    """An edit as its author writes it, before the store has given it an id.

    Text is kept verbatim. ``subject`` is found automatically when absent; ``paraphrases`` are other wordings of
    ``prompt`` that must match too, ``blocks`` texts that must not; ``ground_truth`` is the model's old or wrong answer,
    kept for evaluation. ``valid_at`` and ``invalid_at`` bound when the edit holds in the world (timezone-aware).
    """

    prompt: str
    target: str
    subject: str | None = None
    paraphrases: tuple[str, ...] = ()
    ground_truth: str | None = None
    kind: EditKind = EditKind.FACT
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    valid_at: datetime | None = None
    invalid_at: datetime | None = None
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edit:
    """One version of a stored edit. Times are timezone-aware UTC.

    ``created_at`` / ``expired_at`` say when the store knew this version; ``valid_at`` / ``invalid_at`` when it holds
    in the world. ``content_hash`` identifies namespace, prompt, target, subject and paraphrases; ``blocks`` say where
    the edit must stay silent, not what it is, and are no part of it.
    """

    id: str
    namespace: str
    prompt: str
    target: str
    subject: str | None
    paraphrases: tuple[str, ...]
    ground_truth: str | None
    kind: EditKind
    metadata: Mapping[str, Any]
    source: str | None
    created_at: datetime
    expired_at: datetime | None
    valid_at: datetime | None
    invalid_at: datetime | None
    version: int
    state: EditState
    content_hash: str
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text through a sentence encoder.

    ``vector`` is the unit sentence vector ``[d]``; ``tokens`` the last-layer token vectors ``[t, d]`` without special
    tokens (not normalised); ``spans`` their character offsets ``(start, end)`` in ``text``.
    """

    text: str
    vector: FloatArray
    tokens: FloatArray
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An edit the memory found near a query, before the scope has judged it.

    ``similarity`` is the cosine in [-1, 1] of the query and the nearest of the edit's texts. ``subject_span`` is where
    the edit's subject occurs in the query (character offsets), None when it does not.
    """

    edit: Edit
    similarity: float
    subject_span: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate judged by a scope: ``score`` in [0, 1], ``similarity`` as in :class:`Candidate`.

    ``reasons`` holds the features behind the score by name, for people to read. ``target_probability`` is the
    probability that the edit's target is what is asked for, and not something that follows from it; one half where the
    scope cannot tell.
    """

    edit: Edit
    score: float
    similarity: float
    reasons: Mapping[str, float] = field(default_factory=dict)
    target_probability: float = 0.5

    direct = renamed("direct", "target_probability")


class ChainHop(NamedTuple):
    """One hop of a chain: what was asked, and what the edit says, which is the subject of the next hop.

    ``edit_id`` is empty where no edit answers, but the model; so is ``value`` where that hop is the last.
    """

    edit_id: str
    question: str
    value: str


@dataclass(frozen=True, slots=True)
class ScopeDecision:
    """Which edits, if any, a query falls under.

    ``fired`` are the edits that apply, best first; ``considered`` every judged candidate, best first. ``abstained``
    is True when the best score fell inside the abstention band and the scope therefore stayed silent. ``in_weights``
    are edits that apply too, best first, but that the model's own weights answer (it was loaded as a version that
    they were consolidated into): nothing has to be done for them. ``chain`` holds the hops, first to last, where a
    chain of edits answers the query; the last edit is then among ``fired``. ``asked`` is what the model is asked in
    the query's place, None for the query itself: the question with what edits say put into it.
    """

    query: str
    scope: str
    threshold: float
    fired: tuple[Hit, ...]
    considered: tuple[Hit, ...]
    abstained: bool = False
    in_weights: tuple[Hit, ...] = ()
    chain: tuple[ChainHop, ...] = ()
    asked: str | None = None

    @property
    def by_model(self) -> bool:
        """Whether the last hop is the model's: the edits in front of it stand in ``asked`` and are not applied."""
        return bool(self.chain) and not self.chain[-1].edit_id


@dataclass(frozen=True, slots=True)
class WeightTerm:
    """The change of one weight ``[d_out, d_in]``: either ``up @ down`` or ``dense``.

    ``up`` is ``[d_out, r]``, ``down`` ``[r, d_in]``, ``dense`` ``[d_out, d_in]``, whatever the orientation of the
    weight in memory (``Linear`` or GPT-2's ``Conv1D``).
    """

    up: FloatMatrix | None = None
    down: FloatMatrix | None = None
    dense: FloatMatrix | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(d_out, d_in)``."""
        if self.dense is not None:
            return int(self.dense.shape[0]), int(self.dense.shape[1])
        up, down = self.factors
        return int(up.shape[0]), int(down.shape[1])

    @property
    def factors(self) -> tuple[FloatMatrix, FloatMatrix]:
        """``(up, down)``.

        Raises:
            ValueError: the term is dense.
        """
        if self.up is None or self.down is None:
            raise ValueError("this change of a weight is dense and has no factors")
        return self.up, self.down

    def matrix(self) -> FloatMatrix:
        """Return the change ``[d_out, d_in]`` in full."""
        if self.dense is not None:
            return self.dense
        up, down = self.factors
        return up @ down


@dataclass(frozen=True, slots=True)
class WeightDelta:
    """What consolidated edits change in a base model's weights: ``W = W0 + delta``, always from the frozen base.

    ``terms`` are the changes by full parameter name of the module (``model.layers.8.mlp.down_proj``, without
    ``.weight``); ``base`` the fingerprint of the model they belong to; ``method`` and ``settings`` (a fingerprint)
    say how they were solved for; ``edits`` are the ids of the edits in them, sorted.
    """

    base: str
    method: str
    settings: str
    edits: tuple[str, ...]
    terms: Mapping[str, WeightTerm]

    @property
    def finite(self) -> bool:
        """Whether every number of it is finite."""
        parts = [m for t in self.terms.values() for m in (t.up, t.down, t.dense) if m is not None]
        return all(bool(np.isfinite(part).all()) for part in parts)


@dataclass(frozen=True, slots=True)
class Route:
    """What happens to one row of a batch: ``adapter`` is None when the row is the bare model's."""

    row: int
    decision: ScopeDecision
    adapter: str | None

    @property
    def fired(self) -> tuple[Hit, ...]:
        """The edits that are applied to the row, best first; empty when it is the bare model's."""
        return self.decision.fired if self.adapter is not None else ()


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The immutable plan for one batch; ``routes`` are in row order."""

    routes: tuple[Route, ...]

    @property
    def edited_rows(self) -> tuple[int, ...]:
        """Rows on which an edit fires."""
        return tuple(route.row for route in self.routes if route.adapter is not None)

    @property
    def weight_rows(self) -> tuple[int, ...]:
        """Rows whose edits the model's own weights answer, and no adapter."""
        return tuple(route.row for route in self.routes if route.adapter is None and route.decision.in_weights)
