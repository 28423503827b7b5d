"""Importing edits from a file, or saying what that would do."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from memedit.memory import EditMemory, OnConflict
from memedit.memory.reports import Conflict, ImportReport, Refused, Replacement


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did, or with ``dry_run`` would do, in counts of rows.

    ``additions`` are the prompts and targets that a rehearsal would add. ``superseded`` counts older edits withdrawn
    for newer ones; ``replacements`` names them beside what replaces them, and the contradictions that were kept, or
    would stop the import; ``doubtful`` are pairs that perhaps contradict each other, of which both edits are in force.
    ``refused`` are rows that cannot be used, which stand in ``refused_file``; ``notes`` say
    what was guessed in reading.
    """

    path: str
    rows: int
    added: int
    duplicates: int
    superseded: int
    conflicts: int
    additions: tuple[tuple[str, str], ...]
    replacements: tuple[Replacement, ...]
    doubtful: tuple[Conflict, ...]
    refused: tuple[Refused, ...]
    refused_file: str | None
    notes: tuple[str, ...]
    dry_run: bool
    seconds: float


def import_edits(
    memory: EditMemory,
    path: Path,
    *,
    form: str = "auto",
    paraphrases: bool = False,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    on_conflict: OnConflict = "error",
    skip_invalid: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Import a file of edits in one transaction: all of it goes in, or nothing. See :meth:`EditMemory.import_file`.

    Args:
        memory: where the edits go.
        path: the file.
        form: one of the memory's data formats; "auto" looks at the rows.
        paraphrases: take over a data set's rephrasings, which are meant as test questions.
        columns: what the file calls the fields of an edit, by field.
        encoding: of the file; None finds it.
        on_conflict: what to do with rows that contradict an edit in force or an earlier row.
        skip_invalid: set rows that cannot be used aside, in a file of their own.
        dry_run: write nothing, and say what would happen.
        progress: called with (texts encoded, texts to encode).

    Raises:
        DatasetError: a row is wrong; names file, row and field.
        ConflictError: a row contradicts an edit and ``on_conflict`` is "error".
        StoreError: it could not be written; nothing was.
    """
    started = time.perf_counter()
    report = memory.import_file(
        path,
        format=form,
        paraphrases=paraphrases,
        columns=columns,
        encoding=encoding,
        on_conflict=on_conflict,
        skip_invalid=skip_invalid,
        dry_run=dry_run,
        progress=progress,
    )
    return _summary(path, report, time.perf_counter() - started)


def _summary(path: Path, report: ImportReport, seconds: float) -> ImportSummary:
    new = set(report.added) if report.dry_run else set()
    drafts = zip(report.ids, report.drafts, strict=True)
    return ImportSummary(
        path=str(path),
        rows=len(report.ids) + len(report.refused),
        added=len(report.added),
        duplicates=len(report.duplicates),
        superseded=len(report.superseded),
        conflicts=len(report.conflicts),
        additions=tuple((draft.prompt, draft.target) for edit_id, draft in drafts if edit_id in new),
        replacements=report.replacements,
        doubtful=report.doubtful,
        refused=report.refused,
        refused_file=None if report.refused_file is None else str(report.refused_file),
        notes=report.notes,
        dry_run=report.dry_run,
        seconds=seconds,
    )
