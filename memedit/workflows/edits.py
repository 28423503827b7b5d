"""Importing edits from a file."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memedit.memory import EditMemory, OnConflict


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did, in counts of rows; ``superseded`` counts older edits withdrawn for newer ones."""

    path: str
    rows: int
    added: int
    duplicates: int
    superseded: int
    conflicts: int
    seconds: float


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
    )
