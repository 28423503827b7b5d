"""Bodies of imports."""

from typing import Any

from memedit.memory import AddReport
from memedit.memory.reports import ImportReport
from memedit.server.schemas.common import Out
from memedit.server.schemas.edits import BatchOut


class RefusedOut(Out):
    """A row of a file that cannot be used: where it stands, and why."""

    line: int
    row: int | None
    field: str | None
    reason: str
    text: str


class ReplacementOut(Out):
    """Two edits of which an import puts the new one against the old; ``retired``: the old one is withdrawn for it."""

    old_id: str
    old_prompt: str
    old_target: str
    new_id: str
    new_prompt: str
    new_target: str
    reason: str
    score: float | None
    retired: bool


class ImportOut(BatchOut):
    """What became of a file; with ``dry_run`` what would: nothing was written, and ids of new edits are nobody's.

    ``replacements`` are all contradictions, both sides named; ``refused`` rows that cannot be used; ``notes`` what was
    guessed in reading.
    """

    dry_run: bool
    replacements: list[ReplacementOut]
    refused: list[RefusedOut]
    notes: list[str]

    @classmethod
    def of(cls, report: AddReport) -> "ImportOut":
        """Return a report of an import as a body."""
        assert isinstance(report, ImportReport)
        replaced = [ReplacementOut(**_fields(one)) for one in report.replacements]
        refused = [RefusedOut(**_fields(one) | {"text": one.text[:500]}) for one in report.refused]
        parts = {"replacements": replaced, "refused": refused, "notes": list(report.notes), "dry_run": report.dry_run}
        return cls(**BatchOut.of(report).model_dump() | parts)


def _fields(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in type(found).__slots__}
