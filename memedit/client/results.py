"""What a server answers, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from memedit.deprecation import renamed
from memedit.types import ChainHop, Edit, EditKind, EditState

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FiredEdit:
    """An edit and how well it fits a prompt: ``score`` in [0, 1] against the threshold, cosine ``similarity``.

    ``target_probability`` is the probability that its target itself is asked for. ``prompt`` and ``target`` are None
    for a key that may not read edits.
    """

    id: str
    prompt: str | None
    target: str | None
    score: float
    similarity: float
    reasons: Mapping[str, float] = field(default_factory=dict)
    target_probability: float = 0.5

    direct = renamed("direct", "target_probability")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which edits would fire on a prompt, best first; ``considered`` are all that were looked at.

    ``version`` names the version whose weights would answer, None is the plain base; ``in_weights`` are left to these.
    ``chain`` holds the hops where a chain of edits would answer.
    """

    query: str
    namespace: str
    revision: int
    scope: str
    threshold: float
    abstained: bool
    fired: tuple[FiredEdit, ...]
    considered: tuple[FiredEdit, ...]
    in_weights: tuple[FiredEdit, ...] = ()
    version: str | None = None
    chain: tuple[ChainHop, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """One answer: its text, the edits that fired, and the memory's revision when the prompt was looked up.

    ``adapter`` is None for the bare model's answer. ``version`` names the version whose weights answered, None is the
    plain base; the edits ``in_weights`` were left to these. ``chain`` holds the hops where a chain of edits
    answered. ``body`` is the server's whole response.
    """

    text: str
    finish_reason: str
    edits: tuple[FiredEdit, ...]
    adapter: str | None
    revision: int
    prompt_tokens: int
    completion_tokens: int
    in_weights: tuple[FiredEdit, ...] = ()
    version: str | None = None
    chain: tuple[ChainHop, ...] = ()
    body: Json = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class AddResult:
    """What happened to each row: ``ids`` has one for each, in order; the others are parts of them, or older edits.

    ``doubtful`` are pairs in force that perhaps contradict each other.
    """

    ids: tuple[str, ...]
    added: tuple[str, ...]
    duplicates: tuple[str, ...]
    superseded: tuple[str, ...]
    conflicts: tuple[Json, ...]
    doubtful: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class PossibleConflict:
    """Two edits that perhaps ask the same and answer otherwise; ``score`` is how surely they ask the same."""

    newer: Edit
    older: Edit
    score: float
    at: datetime


@dataclass(frozen=True, slots=True)
class EditChange:
    """One entry of an edit's history; ``other`` is the edit it replaced or was replaced by."""

    revision: int
    at: datetime
    action: str
    edit: Edit
    other: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, from what to what. ``actor`` is None for changes made on the server's own machine."""

    revision: int
    at: datetime
    actor: str | None
    namespace: str
    action: str
    edit_id: str | None
    before: Edit | None
    after: Edit | None


def edit_of(body: Json) -> Edit:
    """Return the edit that a body describes."""
    return Edit(
        id=body["id"],
        namespace=body["namespace"],
        prompt=body["prompt"],
        target=body["target"],
        subject=body["subject"],
        paraphrases=tuple(body["paraphrases"]),
        ground_truth=body["ground_truth"],
        kind=EditKind(body["kind"]),
        metadata=body["metadata"],
        source=body["source"],
        created_at=datetime.fromisoformat(body["created_at"]),
        expired_at=_time(body["expired_at"]),
        valid_at=_time(body["valid_at"]),
        invalid_at=_time(body["invalid_at"]),
        version=body["version"],
        state=EditState(body["state"]),
        content_hash=body["content_hash"],
        blocks=tuple(body.get("blocks", ())),
    )


def add_result(body: Json) -> AddResult:
    """Return the report that a body describes."""
    names = ("ids", "added", "duplicates", "superseded", "conflicts")
    return AddResult(**{name: tuple(body[name]) for name in names}, doubtful=tuple(body.get("doubtful", ())))


def possible_conflict_of(body: Json) -> PossibleConflict:
    """Return the pair that a body describes."""
    at = datetime.fromisoformat(body["at"])
    return PossibleConflict(edit_of(body["newer"]), edit_of(body["older"]), float(body["score"]), at)


def change_of(body: Json) -> EditChange:
    """Return the entry of a history."""
    at = datetime.fromisoformat(body["at"])
    return EditChange(body["revision"], at, body["action"], edit_of(body["edit"]), body["other"])


def audit_of(body: Json) -> AuditEntry:
    """Return the entry of an audit log."""
    before, after = (None if body[name] is None else edit_of(body[name]) for name in ("before", "after"))
    at = datetime.fromisoformat(body["at"])
    return AuditEntry(
        body["revision"], at, body["actor"], body["namespace"], body["action"], body["edit_id"], before, after
    )


def fired_of(bodies: Any) -> tuple[FiredEdit, ...]:
    """Return judged edits."""
    names = ("id", "prompt", "target", "score", "similarity", "reasons", "target_probability")
    return tuple(FiredEdit(**{name: body[name] for name in names if name in body}) for body in bodies or ())


def chain_of(bodies: Any) -> tuple[ChainHop, ...]:
    """Return the hops of a chain; their texts are empty for a key that may not read edits."""
    return tuple(ChainHop(body["id"], body["question"] or "", body["value"] or "") for body in bodies or ())


def explanation_of(body: Json) -> Explanation:
    """Return an explanation."""
    plain = {name: body[name] for name in ("query", "namespace", "revision", "scope", "threshold", "abstained")}
    fired, considered, in_weights = (fired_of(body.get(name)) for name in ("fired", "considered", "in_weights"))
    chain, version = chain_of(body.get("chain")), body.get("version")
    return Explanation(**plain, fired=fired, considered=considered, in_weights=in_weights, version=version, chain=chain)


def answers_of(body: Json) -> list[ChatAnswer]:
    """Return the answers of a response to one prompt."""
    found, usage = body["memedit"], body["usage"]
    return [
        ChatAnswer(
            text=choice["message"]["content"] or "" if "message" in choice else choice["text"],
            finish_reason=choice["finish_reason"],
            edits=fired_of(found["edits"]),
            adapter=found["adapter"],
            revision=found["revision"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            in_weights=fired_of(found.get("in_weights")),
            version=found.get("version"),
            chain=chain_of(found.get("chain")),
            body=body,
        )
        for choice in body["choices"]
    ]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
