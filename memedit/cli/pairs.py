"""Pairs of edits side by side: contradictions, superseded and possible ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memedit.cli.output import Output
from memedit.cli.text import one_line

if TYPE_CHECKING:
    from memedit.memory import Conflict, PossibleConflict
    from memedit.types import Edit
    from memedit.workflows.edits import ImportPreview, ImportSummary

_SETTLE = "settle with: memedit edit settle ID ID --same (withdraws the older edit) or --different (they are two facts)"


def show_pairs(out: Output, pairs: "Sequence[PossibleConflict]") -> None:
    """Print possible conflicts and how to settle them."""
    if not pairs:
        out.line("no possible conflicts")
        return
    rows = [(pair.score, *_edit(pair.older), *_edit(pair.newer)) for pair in pairs]
    _table(out, rows, ("older", "newer"))
    out.line(_SETTLE)


def note_doubts(out: Output, pairs: "Sequence[PossibleConflict]") -> None:
    """Say on stderr which edits a new one perhaps contradicts."""
    for pair in pairs:
        out.note(
            f"perhaps the same question as {pair.older.id} (score {pair.score:.2f}): {one_line(pair.older.prompt)} -> "
            f"{one_line(pair.older.target)}; both are in force. {_SETTLE}"
        )


def show_summary(out: Output, summary: "ImportSummary") -> None:
    """Print what an import did; each edit it retired beside the one that it was retired for."""
    out.line(
        f"{summary.added} added, {summary.duplicates} already there, {summary.superseded} superseded, "
        f"{summary.conflicts} conflicts, {len(summary.doubtful)} doubtful, in {summary.seconds:.1f} s"
    )
    _conflicts(out, "superseded", summary.retired, ("withdrawn", "for"))
    _conflicts(out, "perhaps the same question; both are in force", summary.doubtful, ("older", "newer"))
    if summary.doubtful:
        out.line(_SETTLE)


def show_preview(out: Output, preview: "ImportPreview") -> None:
    """Print what an import would do."""
    out.line(
        f"of {preview.rows} rows {len(preview.added)} would be added, {preview.duplicates} are already there, "
        f"{len(preview.retired)} edits would be superseded, {len(preview.doubtful)} pairs are doubtful, "
        f"{len(preview.invalid)} rows are invalid; nothing was written"
    )
    if preview.added:
        rows = [[one_line(draft.prompt), one_line(draft.target, 40)] for draft in preview.added]
        out.table(["prompt", "target"], rows, title="added")
    _conflicts(out, "superseded", preview.retired, ("withdrawn", "for"))
    _conflicts(out, "contradictory; both would be in force", preview.kept, ("older", "newer"))
    _conflicts(out, "contradictory; the import would be refused", preview.refused, ("older", "newer"))
    _conflicts(out, "perhaps the same question; both would be in force", preview.doubtful, ("older", "newer"))
    for problem in preview.invalid:
        out.line(f"invalid: {problem}")
    if preview.invalid:
        out.line("an import takes all rows or none: correct these first")


def _edit(edit: "Edit") -> tuple[str, str, str]:
    return edit.id, edit.prompt, edit.target


def _conflicts(out: Output, title: str, pairs: "Sequence[Conflict]", sides: tuple[str, str]) -> None:
    rows = [
        (p.score, p.existing_id, p.existing_prompt, p.existing_target, p.new_id, p.new_prompt, p.new_target)
        for p in pairs
    ]
    if rows:
        _table(out, rows, sides, title)


def _table(
    out: Output,
    rows: "Sequence[tuple[float | None, str, str, str, str, str, str]]",
    sides: tuple[str, str],
    title: str | None = None,
) -> None:
    """Print rows (score, id, prompt, target, id, prompt, target), two lines a pair, so that ids stay whole."""
    lines = []
    for score, *edits in rows:
        mark = "same prompt" if score is None else f"{score:.2f}"
        for side, (edit_id, prompt, target) in zip(sides, (edits[:3], edits[3:]), strict=True):
            lines.append([mark, side, edit_id, one_line(prompt), one_line(target, 40)])
            mark = ""
    out.table(["score", "", "id", "prompt", "target"], lines, title=title)
