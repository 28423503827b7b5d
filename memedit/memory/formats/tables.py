"""Tables as spreadsheets write them: a header row, whatever separates the cells, cells over several lines."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError
from memedit.memory.formats.columns import field_of_column
from memedit.memory.formats.rows import Place, RawRow, Rows
from memedit.memory.validation import MAX_TEXT_BYTES

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLED = 50
_HINT = "sep="
"""Excel's own first line, which names the separator."""


def looks_like_table(text: str) -> bool:
    """Say whether the first line is a header that names the question and the answer."""
    header = _hinted(text)[2]
    return any(_names_both(cells) for cells in (_cells(header, delimiter) for delimiter in _DELIMITERS))


def table_rows(text: str, path: Path, delimiter: str | None, notes: Sequence[str]) -> Rows:
    """Open the rows of a table; ``delimiter`` None finds it.

    Raises:
        DatasetError: the header has a blank name or a name twice.
    """
    hint, skipped, rest = _hinted(text)
    delimiter = hint or delimiter or _delimiter(rest)
    lines = _lines(rest)
    quoting = _quoting(lines, delimiter)
    if quoting == csv.QUOTE_NONE:
        notes = (
            *notes,
            "quotation marks stand inside its cells, so they are read as they stand, and parted by tabs alone",
        )
    header, first = _header(lines, delimiter, path)

    def joined(texts: Sequence[str]) -> str:
        ended = [text if text.endswith("\n") else f"{text}\n" for text in texts]
        return "".join([*lines[:first], *ended])

    make = partial(_records, lines, first, (delimiter, quoting), header, skipped)
    return Rows(make, joined, ".tsv" if delimiter == "\t" else ".csv", tuple(header), tuple(notes))


def _lines(text: str) -> list[str]:
    """Return the lines of a file; ``splitlines`` would also cut at U+2028 inside cells."""
    return list(io.StringIO(text, newline=""))


def _quoting(lines: Sequence[str], delimiter: str) -> int:
    """Return how cells are quoted: many tools write tabs between cells and never quote one."""
    if delimiter != "\t":
        return csv.QUOTE_MINIMAL
    try:
        for _ in csv.reader(lines, delimiter=delimiter, strict=True):
            pass
    except csv.Error:
        return csv.QUOTE_NONE
    return csv.QUOTE_MINIMAL


def _hinted(text: str) -> tuple[str | None, int, str]:
    """Return the separator that the first line names, how many lines it all took, and the rest."""
    blank = re.match(r"(?:[ \t]*\r?\n)*", text)
    if blank is not None and blank.end():
        hint, took, rest = _hinted(text[blank.end() :])
        return hint, took + blank.group().count("\n"), rest
    first, _, rest = text.partition("\n")
    hint = first.strip("\r")
    if hint.lower().startswith(_HINT) and len(hint) == len(_HINT) + 1:
        return hint[-1], 1, rest
    return None, 0, text


def _delimiter(text: str) -> str:
    """Return what separates the cells: the header's names tell, else the rows of the same width."""
    sample = _lines(text)[:_SAMPLED]
    header = "".join(sample[:1])
    return max(_DELIMITERS, key=lambda mark: (_names_both(_cells(header, mark)), _evenness(sample, mark)))


def _evenness(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """Return the share of sampled rows that are as wide as the header, and that width; one column is no table."""
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    width = len(rows[0]) if rows else 0
    return (sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0), width


def _cells(text: str, delimiter: str) -> list[str]:
    return next(csv.reader(text.split("\n", 1)[:1], delimiter=delimiter), [])


def _names_both(cells: Sequence[str]) -> bool:
    return {"prompt", "target"} <= {field_of_column(cell) for cell in cells}


def _header(lines: Sequence[str], delimiter: str, path: Path) -> tuple[list[str], int]:
    """Return the names of the columns and how many lines they take."""
    reader = csv.reader(lines, delimiter=delimiter)
    cells = [cell.strip() for cell in next(reader, [])]
    while cells and not cells[-1]:
        cells.pop()  # spreadsheets write the empty columns beside a table, too
    twice = next((cell for cell in cells if cells.count(cell) > 1), None)
    if "" in cells or twice is not None:
        wrong = f"column {twice!r} stands twice" if twice else f"column {cells.index('') + 1} has no name"
        raise DatasetError(f"{wrong} in the header row {cells}", path=str(path), line=1)
    return cells, reader.line_num


def _records(
    lines: Sequence[str], first: int, form: tuple[str, Any], header: Sequence[str], skipped: int
) -> Iterator[RawRow]:
    csv.field_size_limit(max(csv.field_size_limit(), 4 * MAX_TEXT_BYTES))
    reader = csv.reader(lines[first:], delimiter=form[0], quoting=form[1], strict=True)
    done, number = 0, 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells, problem = [], f"is no row of a table: {error}; is a quotation mark closed where it should be?"
        else:
            problem = "" if len(cells) <= len(header) or not any(cells[len(header) :]) else _too_wide(cells, header)
        text = "".join(lines[first + done : first + reader.line_num])
        place = Place(first + skipped + done + 1, number + 1)
        done = reader.line_num
        if not problem and not any(cell.strip() for cell in cells):
            continue
        number += 1
        yield RawRow(place, text, None if problem else _filled(header, cells), problem)


def _too_wide(cells: Sequence[str], header: Sequence[str]) -> str:
    return (
        f"has {len(cells)} cells, but the header names {len(header)} columns; put quotation marks around a cell that "
        "holds the separator"
    )


def _filled(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Return the cells by column; empty ones of columns that an edit can do without are left out."""
    padded = [*cells, *[""] * (len(header) - len(cells))]
    row = dict(zip(header, padded, strict=False))
    return {name: cell for name, cell in row.items() if cell.strip() or field_of_column(name) in ("prompt", "target")}
