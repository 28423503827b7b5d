"""Which edits a job takes, and why it leaves others in the memory."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.consolidation.base import EditRequest
from memedit.consolidation.records import VersionRecord
from memedit.memory import EditMemory
from memedit.types import Edit, EditKind, EditState

_KINDS = (EditKind.FACT, EditKind.CORRECTION)


@dataclass(frozen=True, slots=True)
class Selection:
    """The edits of a job, by id in rising order; ``skipped`` the others in force that matched, each with the reason."""

    edits: tuple[Edit, ...]
    skipped: tuple[tuple[Edit, str], ...]
    new: tuple[str, ...]
    """Of these, the ids that no job of the champion's has tried as they stand."""
    gone: tuple[str, ...]
    """Ids in the champion's weights that are withdrawn, changed, or expressly left out."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the champion holds just these edits already."""
        return not self.new and not self.gone

    @property
    def identity(self) -> str:
        """What identifies this set of edits as they are now."""
        every = sorted((edit.id, edit.content_hash) for edit in (*self.edits, *(edit for edit, _ in self.skipped)))
        return hashlib.sha256("\n".join(" ".join(pair) for pair in every).encode()).hexdigest()

    def requests(self, *, closing: bool = False) -> list[EditRequest]:
        """Return the edits in the form that consolidation works on; with ``closing`` their answers end in a newline."""
        return edit_requests(self.edits, closing=closing)


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """The longest prompt and target, in tokens; ``count`` says how many tokens each of some texts has."""

    prompt: int
    target: int
    count: Callable[[Sequence[str]], Sequence[int]]

    def exceeded(self, edits: Sequence[Edit]) -> dict[str, str]:
        """Say by id which edits are too long, and why."""
        if not edits:
            return {}
        found: dict[str, str] = {}
        for name, most in (("prompt", self.prompt), ("target", self.target)):
            counted = self.count([f" {getattr(edit, name).strip()}" for edit in edits])
            for edit, tokens in zip(edits, counted, strict=True):
                if tokens > most:
                    found[edit.id] = f"has a {name} of {tokens} tokens; at most {most} become weights"
        return found


def edit_requests(edits: Sequence[Edit], *, closing: bool = False) -> list[EditRequest]:
    """Return edits in the form that consolidation works on; with ``closing`` their answers end in a newline."""
    end = "\n" if closing else ""
    return [EditRequest(e.id, e.prompt, e.target, e.subject, e.ground_truth, end) for e in edits]


def select_edits(
    memory: EditMemory,
    champion: VersionRecord | None,
    *,
    metadata: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    limits: TokenLimits | None = None,
) -> Selection:
    """Choose the edits of a job: all in force that match, and what the champion holds and is still in force.

    Edits left over by an earlier job are tried again, so that what is solved for depends on the edits there are, not on
    the order in which they came.

    Args:
        memory: the edits.
        champion: the version they would be added to.
        metadata: only new edits whose metadata has these values.
        without: ids to leave out.
        limits: how long prompts and targets may be; absent, of any length.
    """
    live = {
        edit.id: edit
        for state in (EditState.ACTIVE, EditState.CONSOLIDATED)
        for edit in memory.list(state=state)
        if edit.id not in set(without)
    }
    matching = live
    if metadata:
        matching = {
            edit.id: edit
            for state in (EditState.ACTIVE, EditState.CONSOLIDATED)
            for edit in memory.list(state=state, metadata=metadata)
            if edit.id in live
        }
    held = {} if champion is None else {edit.id: edit.content_hash for edit in champion.edits}
    tried = held | ({} if champion is None else {edit.id: edit.content_hash for edit in champion.rejected})
    wanted = {**matching, **{edit_id: live[edit_id] for edit_id in tried if edit_id in live}}
    ordered = [wanted[edit_id] for edit_id in sorted(wanted)]
    reasons = _reasons(ordered, limits)
    taken = [edit for edit in ordered if edit.id not in reasons]
    current = {edit.id: edit.content_hash for edit in taken}
    return Selection(
        edits=tuple(taken),
        skipped=tuple((edit, reasons[edit.id]) for edit in ordered if edit.id in reasons),
        new=tuple(edit.id for edit in taken if tried.get(edit.id) != edit.content_hash),
        gone=tuple(edit_id for edit_id, content in held.items() if current.get(edit_id) != content),
    )


def _reasons(edits: Sequence[Edit], limits: TokenLimits | None) -> dict[str, str]:
    """Say by id why edits cannot become weights."""
    reasons = {} if limits is None else limits.exceeded(edits)
    for edit in edits:
        if edit.kind not in _KINDS:
            reasons[edit.id] = f"is of kind {edit.kind.value}; only facts and corrections become weights"
        elif edit.valid_at is not None or edit.invalid_at is not None:
            reasons[edit.id] = "holds for a limited time, which weights know nothing of"
        elif not edit.prompt.strip() or not edit.target.strip():
            reasons[edit.id] = "has a blank prompt or target"
    return reasons
