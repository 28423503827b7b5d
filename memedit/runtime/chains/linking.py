"""The chains that a memory holds from given edits on: each one's target is the subject of the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memedit.scope.text import folded_text
from memedit.types import Edit, FloatArray

MAX_HOPS = 4
BEAM = 8
"""Chains of each length that are followed further."""
LINKS = 8
"""Edits of one target that a chain goes on with."""

Chain = tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class _Path:
    """A chain under way, and the product of what its edits' texts have in common with the question."""

    chain: Chain
    score: float


def linked_chains(
    memory: Any, starts: Sequence[Edit], vector: FloatArray, *, namespace: str | None, at: datetime
) -> list[Chain]:
    """Return the chains of 2 to 4 edits that begin with one of ``starts``, the likeliest of each length.

    Every edit is in force, and of this namespace. No subject comes twice, so that a cycle ends where it closes. Of
    edits that ask the same of the same subject the one that holds since last goes on.

    Args:
        memory: the edit memory.
        starts: edits whose subjects the question names.
        vector: the question's ``[d]``.
        namespace: the memory's namespace, None for its own.
        at: the moment at which edits hold.
    """
    paths = [_Path((edit,), 1.0) for edit in newest(starts)]
    found: list[Chain] = []
    for _ in range(MAX_HOPS - 1):
        paths = _longer(memory, paths, vector, namespace, at)
        found += [path.chain for path in paths]
        if not paths:
            break
    return found


def newest(edits: Sequence[Edit]) -> list[Edit]:
    """Leave out edits whose prompt and subject another has that holds since later."""
    latest: dict[tuple[str, str], Edit] = {}
    for edit in sorted(edits, key=_since):
        latest[folded_text(edit.prompt), folded_text(edit.subject or "")] = edit
    kept = {edit.id for edit in latest.values()}
    return [edit for edit in edits if edit.id in kept]


def _longer(
    memory: Any, paths: Sequence[_Path], vector: FloatArray, namespace: str | None, at: datetime
) -> list[_Path]:
    targets = list(dict.fromkeys(path.chain[-1].target for path in paths))
    rows = memory.about(targets, vector, k=LINKS, namespace=namespace, at=at)
    linked = dict(zip(targets, rows, strict=True))
    grown: list[_Path] = []
    for path in paths:
        candidates = linked[path.chain[-1].target]
        nearness = {candidate.edit.id: max(candidate.similarity, 0.0) for candidate in candidates}
        passed = {folded_text(edit.subject or "") for edit in path.chain}
        for edit in newest([candidate.edit for candidate in candidates]):
            if folded_text(edit.subject or "") not in passed:
                grown.append(_Path((*path.chain, edit), path.score * nearness[edit.id]))
    return sorted(grown, key=lambda path: -path.score)[:BEAM]


def _since(edit: Edit) -> tuple[float, float, str]:
    """Return what orders edits by the time from which they hold: said of the world, else when they were stored."""
    stored = edit.created_at.timestamp()
    return (stored if edit.valid_at is None else edit.valid_at.timestamp()), stored, edit.id
