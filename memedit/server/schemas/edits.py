"""Bodies of the edit API."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from memedit.memory import AddReport, Change, Conflict
from memedit.server.schemas.common import ChainHopOut, FiredEdit, In, Out, Time
from memedit.server.schemas.openai import ChatMessage
from memedit.types import ChainPolicy, Edit, EditKind, EditState

OnConflictValue = Literal["error", "supersede", "keep"]
Text = Annotated[str, Field(min_length=1, max_length=65_536)]


class EditIn(In):
    """An edit to be stored. Text is kept verbatim; ``subject`` is found in the prompt when it is left out.

    ``paraphrases`` must fire it as well, ``blocks`` must not.
    """

    prompt: Text
    target: Text
    subject: Text | None = None
    paraphrases: list[Text] = Field(default_factory=list, max_length=1_000)
    blocks: list[Text] = Field(default_factory=list, max_length=1_000)
    ground_truth: str | None = Field(default=None, max_length=65_536)
    kind: EditKind = EditKind.FACT
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    source: str | None = Field(default=None, max_length=65_536)
    valid_at: Time | None = None
    invalid_at: Time | None = None


class EditPatch(In):
    """Fields to change; those left out stay. ``state`` is pending, active or consolidated."""

    prompt: Text | None = None
    target: Text | None = None
    subject: Text | None = None
    paraphrases: list[Text] | None = Field(default=None, max_length=1_000)
    blocks: list[Text] | None = Field(default=None, max_length=1_000)
    ground_truth: str | None = Field(default=None, max_length=65_536)
    kind: EditKind | None = None
    metadata: dict[str, JsonValue] | None = None
    source: str | None = Field(default=None, max_length=65_536)
    valid_at: Time | None = None
    invalid_at: Time | None = None
    state: Literal["pending", "active", "consolidated"] | None = None

    def changes(self) -> dict[str, Any]:
        """Return the fields that the body names, null ones included where null is a value."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        must = ("prompt", "target", "paraphrases", "blocks", "kind", "metadata", "state")
        return {name: value for name, value in given.items() if value is not None or name not in must}


class BatchIn(In):
    """Edits to be stored in one transaction: all of them, or none."""

    edits: list[EditIn] = Field(min_length=1, max_length=10_000)


class WithdrawIn(In):
    """Edits to be withdrawn, each named once."""

    ids: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(min_length=1, max_length=1_000)


class EditOut(Out):
    """One version of an edit."""

    object: Literal["edit"] = "edit"
    id: str
    namespace: str
    prompt: str
    target: str
    subject: str | None
    paraphrases: list[str]
    blocks: list[str]
    ground_truth: str | None
    kind: EditKind
    metadata: dict[str, Any]
    source: str | None
    created_at: datetime
    expired_at: datetime | None
    valid_at: datetime | None
    invalid_at: datetime | None
    version: int
    state: EditState
    content_hash: str

    @classmethod
    def of(cls, edit: Edit) -> "EditOut":
        """Return an edit as a body."""
        fields = {name: getattr(edit, name) for name in Edit.__slots__}
        lists = {"paraphrases": list(edit.paraphrases), "blocks": list(edit.blocks)}
        return cls(**fields | lists | {"metadata": dict(edit.metadata)})


class WithdrawnOut(Out):
    """Edits as they are once they are withdrawn; ``already`` names those that were before."""

    object: Literal["list"] = "list"
    data: list[EditOut]
    already: list[str]


class EditList(Out):
    """A page of edits. ``next`` is the ``after`` of the next page, null on the last one.

    ``total`` counts the edits of all pages, where that was asked for.
    """

    object: Literal["list"] = "list"
    data: list[EditOut]
    has_more: bool
    next: str | None
    total: int | None = None


class ScoredEdit(Out):
    """An edit found by a search, with its score."""

    edit: EditOut
    score: float


class SearchOut(Out):
    """What a search found, best first."""

    object: Literal["list"] = "list"
    data: list[ScoredEdit]


class ConflictOut(Out):
    """A contradiction that was superseded or kept, or a possible one, with both edits' texts."""

    new_id: str
    existing_id: str
    reason: str
    score: float | None
    new_prompt: str
    new_target: str
    existing_prompt: str
    existing_target: str

    @classmethod
    def of(cls, conflict: Conflict) -> "ConflictOut":
        """Return a contradiction as a body."""
        return cls(**{name: getattr(conflict, name) for name in Conflict.__slots__})


class BatchOut(Out):
    """What became of each edit of a batch, or of a file: ``ids`` has one for each, in order.

    ``doubtful`` are pairs in force that perhaps contradict each other.
    """

    ids: list[str]
    added: list[str]
    duplicates: list[str]
    superseded: list[str]
    conflicts: list[ConflictOut]
    doubtful: list[ConflictOut]

    @classmethod
    def of(cls, report: AddReport) -> "BatchOut":
        """Return a report as a body."""
        return cls(
            ids=list(report.ids),
            added=list(report.added),
            duplicates=list(report.duplicates),
            superseded=list(report.superseded),
            conflicts=[ConflictOut.of(conflict) for conflict in report.conflicts],
            doubtful=[ConflictOut.of(conflict) for conflict in report.doubtful],
        )


class ChangeOut(Out):
    """One entry of an edit's history."""

    revision: int
    at: datetime
    action: str
    edit: EditOut
    other: str | None

    @classmethod
    def of(cls, change: Change) -> "ChangeOut":
        """Return a change as a body."""
        edit = EditOut.of(change.edit)
        return cls(revision=change.revision, at=change.at, action=change.action, edit=edit, other=change.other)


class HistoryOut(Out):
    """Every change of an edit, oldest first."""

    object: Literal["list"] = "list"
    data: list[ChangeOut]


class ExplainIn(In):
    """A prompt, as text or as a chat; optionally a threshold and a policy of chains to try for those in force."""

    prompt: Text | None = None
    messages: list[ChatMessage] | None = Field(default=None, min_length=1, max_length=1_000)
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    chains: ChainPolicy | None = None


class ExplainOut(Out):
    """Which edits would fire on a prompt, and why. ``query`` is the text that is looked up.

    ``version`` names the version whose weights would answer, null is the plain base; of the edits ``in_weights`` these
    know the answer themselves. ``chain`` holds the hops where a chain of edits would answer, first to last.
    """

    query: str
    namespace: str
    revision: int
    scope: str
    threshold: float
    abstained: bool
    version: str | None = None
    fired: list[FiredEdit]
    in_weights: list[FiredEdit] = Field(default_factory=list)
    chain: list[ChainHopOut] = Field(default_factory=list)
    considered: list[FiredEdit]
