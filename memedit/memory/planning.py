"""What adding a batch will do, worked out before anything is written."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from memedit.errors import ConflictError, InputError
from memedit.memory.conflicts import Member, RelationJudge
from memedit.memory.normal import content_hash, same_prompt, same_target
from memedit.memory.reports import Conflict
from memedit.types import FloatArray

OnConflict = Literal["error", "supersede", "keep"]


@dataclass(slots=True)
class Plan:
    """``ids`` one per row; ``inserts`` the rows to store; ``retired`` (older member, id of the edit replacing it).

    ``doubts`` are (newer member, older member, score) of pairs in force that perhaps contradict each other.
    """

    ids: list[str] = field(default_factory=list)
    inserts: list[int] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    retired: list[tuple[Member, str]] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    doubts: list[tuple[Member, Member, float]] = field(default_factory=list)

    @property
    def doubtful(self) -> tuple[Conflict, ...]:
        """The doubts as they are reported."""
        return tuple(_conflict(new, old, _reason(new, old, score), score) for new, old, score in self.doubts)


def check_policy(value: Any) -> OnConflict:
    """Return a usable ``on_conflict``.

    Raises:
        InputError: none of error, supersede, keep.
    """
    if value not in get_args(OnConflict):
        raise InputError(f"on_conflict={value!r} is none of {', '.join(get_args(OnConflict))}")
    policy: OnConflict = value
    return policy


def plan_batch(
    rows: Sequence[Mapping[str, Any]],
    known: Sequence[Member],
    judge: RelationJudge,
    policy: OnConflict,
    describe: Callable[[int], str] = lambda row: "",
    *,
    vectors: dict[str, FloatArray] | None = None,
) -> Plan:
    """Take the rows in order, as if added one by one.

    A row equal to a live edit is a duplicate, and so is one that differs from it only in composed characters, in blanks
    around its texts, or in its prompt's case. So is a row equal to a withdrawn edit, when it would only supersede what
    a later row puts back: importing the same file again therefore changes nothing.

    Args:
        rows: new rows of the edits table.
        known: live edits of the store that share a prompt or a subject with one of them, oldest first.
        judge: finds contradictions in other words.
        policy: what to do about contradictions.
        describe: where a row came from, put in front of the reason of a refusal.
        vectors: gets the sentence vectors of prompts that are encoded on the way, by text.

    Raises:
        ConflictError: a row contradicts a live edit or an earlier row, and ``policy`` is "error".
    """
    planner = _Planner(rows, known, judge, policy, describe, vectors=vectors)
    for i, row in enumerate(rows):
        if i in planner.batch:
            planner.take(i, planner.batch[i])
        else:
            planner.plan.ids.append(row["id"])
            planner.plan.inserts.append(i)
    planner.plan.doubts = [doubt for doubt in planner.plan.doubts if doubt[0].alive and doubt[1].alive]
    return planner.plan


class _Planner:
    """Takes the rows that share a prompt or a subject with others, one by one."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        known: Sequence[Member],
        judge: RelationJudge,
        policy: OnConflict,
        describe: Callable[[int], str],
        *,
        vectors: dict[str, FloatArray] | None,
    ) -> None:
        self.plan = Plan()
        self.batch = batch = {i: Member.of(rows[i], row=i) for i in _sharing(rows, known)}
        self._policy, self._describe, self._judge, self._rows = policy, describe, judge, rows
        self._pairs = judge.pairs(known, list(batch.values()), vectors)
        self._last = {member.content_hash: i for i, member in batch.items()}
        self._by_prompt: dict[int, list[Member]] = defaultdict(list)
        for member in known:
            self._by_prompt[member.prompt_hash].append(member)

    def take(self, i: int, member: Member) -> None:
        """Decide on row ``i``: a duplicate, a refusal, or an insert that may retire others."""
        peers = self._by_prompt[member.prompt_hash]
        found: list[tuple[Member, float | None]] = [
            (m, None) for m in peers if m.alive and m.goal != member.goal and m.overlaps(member)
        ]
        rivals = [rival for rival in self._pairs.get(i, ()) if rival.member.alive]
        found += [(rival.member, rival.score) for rival in rivals if rival.sure]
        twin = self._twin(i, member, peers, [m for m, _ in found])
        if twin is not None:
            member.alive = False  # it is not stored, so no later row can contradict it
            self.plan.ids.append(twin.id)
            self.plan.duplicates.append(twin.id)
            return
        for old, score in found:
            self._contradict(i, member, old, score)
        self.plan.ids.append(member.id)
        self.plan.inserts.append(i)
        self.plan.doubts += [(member, rival.member, rival.score) for rival in rivals if not rival.sure]
        peers.append(member)

    def _twin(self, i: int, member: Member, peers: Sequence[Member], rivals: Sequence[Member]) -> Member | None:
        """The edit that row ``i`` repeats: a live one, or a withdrawn one whose rivals later rows put back anyway."""
        again = self._policy == "supersede" and bool(rivals)
        again = again and all(self._last.get(rival.content_hash, -1) > i for rival in rivals)
        row = self._rows[i]
        return next((m for m in peers if (m.alive or (again and m.withdrawn)) and _same(m, member, row)), None)

    def _contradict(self, i: int, member: Member, old: Member, score: float | None) -> None:
        """Refuse row ``i``, or note that it contradicts ``old`` and, where told so, retire that one."""
        threshold = None if score is None else self._judge.threshold  # asking loads the encoder
        reason = _reason(member, old, score, threshold)
        if self._policy == "error":
            apart = "" if score is None else "; if both are true, let the old edit block the new prompt (block())"
            raise ConflictError(new_id=member.id, existing_id=old.id, reason=self._describe(i) + reason + apart)
        self.plan.conflicts.append(_conflict(member, old, reason, score))
        if self._policy == "supersede":
            old.alive = False
            self.plan.retired.append((old, member.id))


def _sharing(rows: Sequence[Mapping[str, Any]], known: Sequence[Member]) -> list[int]:
    """The rows that share a prompt or a subject with a known member or another row; the others are simply new."""
    prompts = Counter(row["prompt_hash"] for row in rows)
    prompts.update(member.prompt_hash for member in known)
    subjects = Counter(row["subject_hash"] for row in rows)
    subjects.update(member.subject_hash for member in known)
    del subjects[None]
    return [i for i, row in enumerate(rows) if prompts[row["prompt_hash"]] > 1 or subjects[row["subject_hash"]] > 1]


def _same(one: Member, other: Member, row: Mapping[str, Any]) -> bool:
    """Whether two are the same edit: same texts, holding over the same time; ``row`` is the other's."""
    if one.valid_at != other.valid_at or one.invalid_at != other.invalid_at:
        return False
    if one.content_hash == other.content_hash:
        return True
    if not (same_prompt(one.prompt, other.prompt) and same_target(one.target, other.target)):
        return False
    if one.subject and other.subject and not same_prompt(one.subject, other.subject):
        return False
    # a member's paraphrases are in its hash alone
    paraphrases = json.loads(row["paraphrases"])
    return content_hash(row["namespace"], one.prompt, one.target, one.subject, paraphrases) == one.content_hash


def _conflict(new: Member, old: Member, reason: str, score: float | None) -> Conflict:
    return Conflict(new.id, old.id, reason, score, new.prompt, new.target, old.prompt, old.target)


def _reason(new: Member, old: Member, score: float | None, threshold: float | None = None) -> str:
    targets = f"target {_short(new.target)} against {_short(old.target)}"
    if score is None:
        return f"same prompt {_short(old.prompt)}, {targets}"
    same = "perhaps the same question" if threshold is None else "the same question in other words"
    bar = "" if threshold is None else f", threshold {threshold:.2f}"
    return (
        f"same subject {_short(new.subject or '')} and {same} (score {score:.2f}{bar}): {_short(new.prompt)} and "
        f"{_short(old.prompt)}, {targets}"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
