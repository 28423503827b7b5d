"""What the memory answers with besides edits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from memedit.types import Edit, EditDraft


@dataclass(frozen=True, slots=True)
class Conflict:
    """A contradiction between two edits; ``score`` is None when the prompts are the same.

    It is a possible one where a report lists it as doubtful.
    """

    new_id: str
    existing_id: str
    reason: str
    score: float | None
    new_prompt: str
    new_target: str
    existing_prompt: str
    existing_target: str


@dataclass(frozen=True, slots=True)
class PossibleConflict:
    """Two edits, both in the store and not withdrawn, that perhaps ask the same and answer otherwise.

    ``score`` is how surely they ask the same, ``at`` when that was judged.
    """

    newer: Edit
    older: Edit
    score: float
    at: datetime


@dataclass(frozen=True, slots=True)
class AddReport:
    """What happened to each row given to ``add_many``.

    ``ids`` has one id per row, in order: that of the new edit, or of the first one where the row was a duplicate.
    ``added`` and ``duplicates`` are the parts of it; ``superseded`` the older edits withdrawn for newer ones (which may
    be rows of the same call); ``conflicts`` the contradictions that were superseded or kept, each with the older edit
    beside the newer; ``doubtful`` pairs of edits in force that perhaps contradict each other
    (:meth:`EditMemory.possible_conflicts`).
    """

    ids: tuple[str, ...]
    added: tuple[str, ...]
    duplicates: tuple[str, ...]
    superseded: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    doubtful: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A row of a file that cannot be used: where it stands, ``field`` and ``reason``, its ``text`` as the file has it.

    ``row`` counts the rows of a file in which they are not lines.
    """

    line: int
    row: int | None
    field: str | None
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Replacement:
    """Two edits of which an import puts the new one against the old: ids, prompts, targets, and why they contradict.

    ``retired`` says that the old one is withdrawn for it; else both are kept, or the import would be refused.
    """

    old_id: str
    old_prompt: str
    old_target: str
    new_id: str
    new_prompt: str
    new_target: str
    reason: str
    score: float | None
    retired: bool


@dataclass(frozen=True, slots=True)
class ImportReport(AddReport):
    """What happened to a file: an :class:`AddReport`, and besides

    ``drafts`` (what its rows say, one for each of ``ids``), ``replacements`` (every contradiction, both sides named),
    ``refused`` (rows that cannot be used and were set aside), ``refused_file`` (where they were written), ``notes``
    (what was guessed in reading), and ``dry_run``: whether nothing was written, and this is what would be.
    """

    drafts: tuple[EditDraft, ...] = ()
    replacements: tuple[Replacement, ...] = ()
    refused: tuple[Refused, ...] = ()
    refused_file: Path | None = None
    notes: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of an edit's history.

    ``action`` is add, update, supersede (it replaces ``other``), superseded (by ``other``), delete, restore, state or
    told-apart (from ``other``, which it perhaps contradicted); ``edit`` the version it made.
    """

    revision: int
    at: datetime
    action: str
    edit: Edit
    other: str | None


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Counts of one namespace. ``edits`` by state; ``versions`` includes past ones; sizes are in bytes."""

    namespace: str
    edits: Mapping[str, int]
    versions: int
    texts: int
    revision: int
    namespaces: tuple[str, ...]
    encoder: str | None
    dimension: int | None
    index_kind: str
    index_rows: int | None
    database_bytes: int | None
    schema_version: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What :meth:`EditMemory.verify` looked at and found wrong."""

    edits: int
    vectors: int
    index_rows: int
    problems: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
