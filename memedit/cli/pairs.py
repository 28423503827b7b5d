"""Possible conflicts, both edits side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memedit.cli.output import Output
from memedit.cli.text import one_line

if TYPE_CHECKING:
    from memedit.memory import Conflict, PossibleConflict
    from memedit.types import Edit

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


def show_doubtful(out: Output, pairs: "Sequence[Conflict]", *, dry_run: bool) -> None:
    """Print the possible conflicts that an import makes; ``dry_run``: would make."""
    if not pairs:
        return
    rows = [
        (p.score, p.existing_id, p.existing_prompt, p.existing_target, p.new_id, p.new_prompt, p.new_target)
        for p in pairs
    ]
    force = "would be" if dry_run else "are"
    _table(out, rows, ("older", "newer"), f"perhaps the same question; both {force} in force")
    if not dry_run:
        out.line(_SETTLE)


def _edit(edit: "Edit") -> tuple[str, str, str]:
    return edit.id, edit.prompt, edit.target


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
