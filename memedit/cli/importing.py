"""What an import did, or would do, for people to read."""

from typing import TYPE_CHECKING

from memedit.cli.failures import CONFLICT, FAILED, OK
from memedit.cli.output import Output
from memedit.cli.pairs import show_doubtful
from memedit.cli.text import one_line
from memedit.errors import place_in_file

if TYPE_CHECKING:
    from memedit.memory.reports import Refused, Replacement
    from memedit.workflows.edits import ImportSummary

_SHOWN = 50
"""Lines of a list of additions or refused rows; what is replaced is always named."""


def exit_code(summary: "ImportSummary", *, stops_at_conflict: bool, skip_invalid: bool) -> int:
    """Return the exit code of an import; of a rehearsal the one that the import would have."""
    if not summary.dry_run:
        return OK
    if summary.refused and not skip_invalid:
        return FAILED
    return CONFLICT if summary.conflicts and stops_at_conflict else OK


def print_summary(out: Output, summary: "ImportSummary") -> None:
    """Print counts, then every edit that was replaced beside what replaces it, pairs in doubt, and the refused rows."""
    for note in summary.notes:
        out.note(f"{summary.path}: {note}")
    would = "would be " if summary.dry_run else ""
    unusable = "cannot be used" if summary.dry_run else "refused"
    doubtful = f", {len(summary.doubtful)} doubtful" if summary.doubtful else ""
    refused = f", {len(summary.refused)} {unusable}" if summary.refused else ""
    end = "; nothing was written" if summary.dry_run else f", in {summary.seconds:.1f} s"
    out.line(
        f"{summary.added} {would}added, {summary.duplicates} already there, {summary.superseded} {would}superseded, "
        f"{summary.conflicts} conflicts{doubtful}{refused}{end}"
    )
    _some(out, [f"  + {one_line(prompt)} => {one_line(target)}" for prompt, target in summary.additions])
    for item in summary.replacements:
        _print_replacement(out, item, dry_run=summary.dry_run)
    show_doubtful(out, summary.doubtful, dry_run=summary.dry_run)
    _some(out, [f"  x {_refused(row)}" for row in summary.refused])
    if summary.refused_file is not None:
        out.line(f"the refused rows stand in {summary.refused_file}: mend them there and import that file")


def _print_replacement(out: Output, item: "Replacement", *, dry_run: bool) -> None:
    done, planned = ("retired", "would retire") if item.retired else ("kept beside", "contradicts")
    out.line(f"  {planned if dry_run else done} {item.old_id}: {item.reason}")
    out.line(f"    - {one_line(item.old_prompt)} => {one_line(item.old_target)}", style="red")
    out.line(f"    + {one_line(item.new_prompt)} => {one_line(item.new_target)}", style="green")


def _refused(row: "Refused") -> str:
    where = place_in_file(line=row.line, row=row.row).removeprefix(", ")
    field = f", {row.field}" if row.field else ""
    return f"{where}{field}: {row.reason}: {one_line(row.text, 100)}"


def _some(out: Output, lines: list[str]) -> None:
    out.lines(lines[:_SHOWN])
    if len(lines) > _SHOWN:
        out.line(f"  ... and {len(lines) - _SHOWN} more; --json lists all")
