"""Adding the edits of a file, and saying what happened to them, both sides of every contradiction named."""

from pathlib import Path

from memedit.encoders.base import Progress
from memedit.memory.formats import FileDrafts
from memedit.memory.mutations import Mutations
from memedit.memory.planning import OnConflict
from memedit.memory.reports import AddReport, ImportReport, Replacement


def add_file(
    mutations: Mutations,
    namespace: str,
    policy: OnConflict,
    found: FileDrafts,
    *,
    dry_run: bool,
    progress: Progress | None,
) -> ImportReport:
    """Add what was read of a file in one transaction; with ``dry_run`` only say what that would do.

    Raises:
        ConflictError: a row contradicts a live edit or an earlier row, and ``policy`` is "error".
        StoreError: the edits, or the rows that were set aside, could not be written; nothing was.
    """
    aside = None if dry_run else found.write_refused()
    try:
        report = mutations.add_many(
            found.drafts,
            namespace,
            # a rehearsal shows every contradiction, not only the first
            "keep" if dry_run and policy == "error" else policy,
            progress=progress,
            describe=found.describe,
            ids=found.ids,
            states=found.states,
            dry_run=dry_run,
        )
    except BaseException:
        _drop(aside)
        raise
    return ImportReport(
        report.ids,
        report.added,
        report.duplicates,
        report.superseded,
        report.conflicts,
        report.doubtful,
        drafts=tuple(found.drafts),
        replacements=_replacements(report),
        refused=tuple(found.refused),
        refused_file=aside,
        notes=found.notes,
        dry_run=dry_run,
    )


def _drop(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def _replacements(report: AddReport) -> tuple[Replacement, ...]:
    retired = set(report.superseded)
    return tuple(
        Replacement(
            conflict.existing_id,
            conflict.existing_prompt,
            conflict.existing_target,
            conflict.new_id,
            conflict.new_prompt,
            conflict.new_target,
            conflict.reason,
            conflict.score,
            conflict.existing_id in retired,
        )
        for conflict in report.conflicts
    )
