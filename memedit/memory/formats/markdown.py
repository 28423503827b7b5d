"""Questions and answers in Markdown: ``Q:`` and ``A:``, a table of them, or a heading for each, its answer below."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

from memedit.memory.formats.columns import field_of_column
from memedit.memory.formats.rows import Place, RawRow, Rows

_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_QUESTION = re.compile(r"\s{0,3}(?:#{1,6}\s+|[-*+]\s+)?[*_]{0,2}(?:q|question)\s*\d*\s*[:.)]\s*[*_]{0,2}\s*(.*)$", re.I)
_ANSWER = re.compile(r"\s{0,3}(?:[-*+]\s+)?[*_]{0,2}(?:a|answer)\s*\d*\s*[:.)]\s*[*_]{0,2}\s?(.*)$", re.I)
_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
_BAR = re.compile(r"(?<!\\)\|")
_MARKS = re.compile(r"^[*_]{1,2}|[*_]{1,2}$")


def marks_questions(text: str) -> bool:
    """Whether the first line of a text marks a question (``Q:``)."""
    return _QUESTION.match(text.lstrip().split("\n", 1)[0]) is not None


def markdown_rows(text: str, notes: Sequence[str]) -> Rows:
    """Open the questions of a Markdown text; what stands before the first is left out, with a note."""
    lines = text.replace("\r\n", "\n").split("\n")
    table = _table(lines)
    if table is not None:
        head = lines[table[0].place.line - 3 :][:2] if table else []
        return Rows(partial(iter, table), lambda texts: "\n".join([*head, *texts]), ".md", notes=tuple(notes))
    starts = _starts(lines)
    early = sum(1 for line in lines[: starts[0] if starts else len(lines)] if line.strip())
    said = [*notes, f"{early} lines before the first question are left out"] if early else list(notes)
    return Rows(partial(_rows, lines, starts), "\n".join, ".md", notes=tuple(said))


def _table(lines: Sequence[str]) -> list[RawRow] | None:
    """Return the rows of the first table that has a column of questions and one of answers."""
    plain = {number for number, _ in _outside_fences(lines)}
    for number in sorted(plain):
        header = [field_of_column(cell.strip("*_ ")) for cell in _cells(lines[number])]
        if {"prompt", "target"} <= set(header) and number + 1 < len(lines) and _RULE.fullmatch(lines[number + 1]):
            return list(_table_rows(lines, number, header))
    return None


def _table_rows(lines: Sequence[str], header: int, fields: Sequence[str | None]) -> Iterator[RawRow]:
    for number, line in enumerate(lines[header + 2 :], start=1):
        cells = _cells(line)
        if not cells:
            return
        named = {field: cell for field, cell in zip(fields, cells, strict=False) if field is not None}
        yield RawRow(Place(header + 2 + number, number), line, named)


def _cells(line: str) -> list[str]:
    """Return the cells of a table's line, [] where it is none."""
    if "|" not in line:
        return []
    inside = line.strip().removeprefix("|")
    inside = inside[:-1] if inside.endswith("|") and not inside.endswith("\\|") else inside
    return [cell.strip().replace("\\|", "|") for cell in _BAR.split(inside)]


def _starts(lines: Sequence[str]) -> list[int]:
    """Return the lines at which questions begin: those marked Q, or else every heading that has text below it."""
    plain = [number for number, line in _outside_fences(lines)]
    marked = [number for number in plain if _QUESTION.match(lines[number])]
    if marked:
        return marked
    headings = [number for number in plain if _HEADING.match(lines[number])]
    last = headings[-1:]  # none groups what follows it where nothing does
    return [number for number, following in pairwise(headings) if not _title(lines, number, following)] + last


def _title(lines: Sequence[str], number: int, following: int) -> bool:
    """Whether a heading only groups the deeper ones that follow it at once."""
    if any(line.strip() for line in lines[number + 1 : following]):
        return False
    return _level(lines[following]) > _level(lines[number])


def _level(line: str) -> int:
    found = _HEADING.match(line)
    return len(found[1]) if found else 0


def _outside_fences(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines that are no part of a block of code."""
    fence = ""
    for number, line in enumerate(lines):
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif found:
            fence = found[1]
        else:
            yield number, line


def _rows(lines: Sequence[str], starts: Sequence[int]) -> Iterator[RawRow]:
    for number, (start, end) in enumerate(pairwise([*starts, len(lines)]), start=1):
        block = lines[start:end]
        question, answer = _marked(block) if _QUESTION.match(lines[start]) else _headed(block)
        yield RawRow(Place(start + 1, number), "\n".join(block), {"question": question, "answer": answer})


def _headed(block: Sequence[str]) -> tuple[str, str]:
    found = _HEADING.match(block[0])
    return (found[2] if found else ""), _trimmed(block[1:])


def _marked(block: Sequence[str]) -> tuple[str, str]:
    """Split a block that begins with ``Q:`` at its ``A:``; without one the answer is what follows the first line."""
    at = next((number for number, line in enumerate(block) if number and _ANSWER.match(line)), None)
    first = _QUESTION.match(block[0])
    said = first[1] if first else ""
    if at is None:
        return _unmarked(said), ""
    answer = _ANSWER.match(block[at])
    begun = answer[1] if answer else ""
    question = "\n".join([said, *block[1:at]]).strip()
    return _unmarked(question), _trimmed([begun, *block[at + 1 :]])


def _unmarked(question: str) -> str:
    """Take the marks of bold type from around a question."""
    return _MARKS.sub("", question.strip()).strip()


def _trimmed(lines: Sequence[str]) -> str:
    """Return lines without the blank ones, and rules, around them; the layout inside stays."""
    kept = list(lines)
    while kept and (not kept[-1].strip() or re.fullmatch(r"\s{0,3}(-{3,}|\*{3,}|_{3,})\s*", kept[-1])):
        kept.pop()
    while kept and not kept[0].strip():
        kept.pop(0)
    return "\n".join(kept).rstrip()
