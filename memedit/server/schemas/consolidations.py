"""Bodies of the consolidation routes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from memedit.consolidation.ledger import Entry
from memedit.consolidation.records import VersionRecord
from memedit.server.consolidations import JobState
from memedit.server.schemas.common import In, Out

EditIdIn = Annotated[str, Field(min_length=1, max_length=200)]


class JobIn(In):
    """A consolidation to be started. What is left out is as ``memedit consolidate`` has it."""

    method: Literal["rome", "memit", "alphaedit", "rect", "prune", "ultraedit", "kne"] | None = None
    check: Literal["prefix", "exact", "contains"] | None = None
    chat: bool | None = Field(default=None, description="also ask every edit as a chat turn")
    rounds: int | None = Field(default=None, ge=1, le=10)
    metadata: dict[str, JsonValue] = Field(default_factory=dict, description="only new edits with this metadata")
    publish: bool = Field(default=True, description="make the candidate champion when its gates allow")
    again: bool = Field(default=False, description="solve even when there is nothing new")

    def settings(self) -> dict[str, Any]:
        """Return the settings that are given."""
        given = {"method": self.method, "check": self.check, "chat": self.chat, "rounds": self.rounds}
        return {name: value for name, value in given.items() if value is not None}


class WithdrawIn(In):
    """Edits to be withdrawn from memory and weights."""

    ids: list[EditIdIn] = Field(min_length=1, max_length=10_000)


class JobOut(Out):
    """How a job stands. ``share`` of the work is done; ``eta_seconds`` null until it can be told."""

    id: str
    namespace: str
    actor: str
    kind: Literal["consolidation", "withdrawal"]
    state: Literal["running", "done", "failed", "cancelled"]
    started_at: datetime
    ended_at: datetime | None
    stage: str
    share: float
    eta_seconds: float | None
    message: str | None
    version: str | None
    published: bool

    @classmethod
    def of(cls, job: JobState) -> "JobOut":
        """Return a job as a body."""
        return cls(**{name: getattr(job, name) for name in JobState.__slots__})


class GateOut(Out):
    """One gate: the candidate's figure and the base's, how many probes, and what it comes to."""

    name: str
    verdict: str
    reason: str
    n: int
    candidate: float | None
    base: float | None
    unit: str
    p_value: float | None
    test: str | None


class VersionOut(Out):
    """A version of the weights: which edits it answers, and how its gates came out."""

    name: str
    created_at: str
    method: str
    base: str
    verdict: str
    reasons: list[str]
    aliases: list[str]
    edits: int
    served: list[str] = Field(description="ids of the edits that its weights answer")
    left_over: list[str] = Field(description="ids of the job's edits that the memory goes on answering")
    gates: list[GateOut]
    seconds: dict[str, float]

    @classmethod
    def of(cls, record: VersionRecord, aliases: dict[str, str | None]) -> "VersionOut":
        """Return a version as a body."""
        return cls(
            name=record.name,
            created_at=record.created_at,
            method=record.method,
            base=record.base_name,
            verdict=record.verdict.value,
            reasons=list(record.reasons),
            aliases=[alias for alias, name in aliases.items() if name == record.name],
            edits=len(record.edits),
            served=[edit.id for edit in record.served],
            left_over=[edit.id for edit in record.left_over],
            gates=[GateOut(**gate.as_json()) for gate in record.gates],
            seconds=dict(record.seconds),
        )


class InWeightsOut(Out):
    """What the champion's weights know of an edit; see ``memedit edit show``."""

    version: str
    since: str | None = Field(description="version by which it last became consolidated")
    scope: Literal["gated", "always"]
    served: bool = Field(description="whether the weights answer it")
    asked: int = Field(description="wordings that the weights were asked in")
    right: int = Field(description="of these, answered rightly")
    any_wording: bool = Field(description="whether words that were not asked are left to the weights")
    chat: bool | None
    reason: str


class AliasesOut(Out):
    """Which version stands under which alias; null for champion and previous is the plain base."""

    candidate: str | None
    champion: str | None
    previous: str | None


class LedgerOut(Out):
    """One entry of the ledger of versions."""

    number: int
    at: datetime
    action: str
    version: str | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> "LedgerOut":
        """Return an entry as a body."""
        return cls(**entry.as_json())


class ServingOut(Out):
    """What this server answers a namespace with: a version's weights, or the plain base's (null).

    ``follows`` says that it is the champion, and the next one as soon as there is one; ``problem`` why the champion
    does not answer although it should.
    """

    version: str | None
    follows: bool
    problem: str | None


class ConsolidationsOut(Out):
    """Everything about a namespace's consolidation: versions and jobs newest first, the ledger oldest first.

    ``busy`` says that some process, perhaps not this server's, is at work on the namespace now.
    """

    aliases: AliasesOut
    serving: ServingOut
    busy: bool
    jobs: list[JobOut]
    versions: list[VersionOut]
    ledger: list[LedgerOut]
