"""Importing edits from a file, and what an import would do."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memedit.errors import DatasetError
from memedit.memory import Conflict, EditMemory, OnConflict
from memedit.memory.formats import read_drafts
from memedit.types import EditDraft


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did, in counts of rows; ``superseded`` counts older edits withdrawn for newer ones.

    ``retired`` names each of these beside the one that it was withdrawn for; ``doubtful`` are pairs of edits in force
    that perhaps contradict each other.
    """

    path: str
    rows: int
    added: int
    duplicates: int
    superseded: int
    conflicts: int
    seconds: float
    retired: tuple[Conflict, ...]
    doubtful: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class ImportPreview:
    """What an import would do. ``refused`` are contradictions that would stop it, ``invalid`` rows that would.

    ``kept`` are contradictions of which both edits would be in force; the rest as in :class:`ImportSummary`.
    """

    path: str
    rows: int
    added: tuple[EditDraft, ...]
    duplicates: int
    retired: tuple[Conflict, ...]
    doubtful: tuple[Conflict, ...]
    kept: tuple[Conflict, ...]
    refused: tuple[Conflict, ...]
    invalid: tuple[str, ...]


def import_edits(
    memory: EditMemory,
    path: Path,
    *,
    form: str = "auto",
    paraphrases: bool = False,
    on_conflict: OnConflict = "error",
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Import a file of edits in one transaction: all of it goes in, or nothing.

    Args:
        memory: where the edits go.
        path: the file.
        form: one of the memory's data formats; "auto" looks at the rows.
        paraphrases: take over a data set's rephrasings, which are meant as test questions.
        on_conflict: what to do with rows that contradict an edit in force or an earlier row.
        progress: called with (texts encoded, texts to encode).

    Raises:
        DatasetError: a row is wrong; names file, line and field.
        ConflictError: a row contradicts an edit and ``on_conflict`` is "error".
        StoreError: it could not be written; nothing was.
    """
    started = time.perf_counter()
    report = memory.import_file(path, format=form, paraphrases=paraphrases, on_conflict=on_conflict, progress=progress)
    return ImportSummary(
        path=str(path),
        rows=len(report.ids),
        added=len(report.added),
        duplicates=len(report.duplicates),
        superseded=len(report.superseded),
        conflicts=len(report.conflicts),
        seconds=time.perf_counter() - started,
        retired=report.conflicts if on_conflict == "supersede" else (),
        doubtful=report.doubtful,
    )


def preview_import(
    memory: EditMemory,
    path: Path,
    *,
    form: str = "auto",
    paraphrases: bool = False,
    on_conflict: OnConflict = "error",
) -> ImportPreview:
    """Work out what :func:`import_edits` would do, and write nothing. Rows that are wrong are all listed.

    Raises:
        DatasetError: the file as a whole cannot be read.
    """
    problems: list[DatasetError] = []
    drafts = read_drafts(path, form, paraphrases, problems=problems).drafts
    # contradictions that would be refused are all wanted, not the first alone
    report = memory.add_many(drafts, on_conflict="keep" if on_conflict == "error" else on_conflict, dry_run=True)
    new, conflicts = set(report.added), report.conflicts
    return ImportPreview(
        path=str(path),
        rows=len(drafts) + len(problems),
        added=tuple(draft for draft, edit_id in zip(drafts, report.ids, strict=True) if edit_id in new),
        duplicates=len(report.duplicates),
        retired=conflicts if on_conflict == "supersede" else (),
        doubtful=report.doubtful,
        kept=conflicts if on_conflict == "keep" else (),
        refused=conflicts if on_conflict == "error" else (),
        invalid=tuple(map(str, problems)),
    )
