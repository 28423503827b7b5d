"""The rows of a file, by what it is: JSONL, a whole JSON document, a table, or questions and answers in Markdown."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError
from memedit.memory.formats.markdown import markdown_rows, marks_questions
from memedit.memory.formats.rows import Place, RawRow, Rows, as_lines
from memedit.memory.formats.sources import decode, file_kind, read_bytes
from memedit.memory.formats.tables import looks_like_table, table_rows

_LISTS = ("results", "memories", "data", "edits", "facts", "items", "rows")
_TABLES = frozenset({".csv", ".tsv", ".tab"})
_MARKDOWN = frozenset({".md", ".markdown"})
_JSON = frozenset({".json", ".jsonl", ".ndjson"})
_OTHER = (
    (b"PK\x03\x04", "is a spreadsheet or another packed archive; save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "is a document of an old office program; save it as CSV"),
    (b"%PDF", "is a PDF; copy its questions and answers into a table or a text file"),
    (b"SQLite format 3\x00", "is a database; `memedit edit export OUT -m FILE` writes the edits of a memory"),
)
"""How files begin that hold no text, and what to do with them."""


class WrittenFloat(float):
    """A number that knows how it was written: a price of 1.10 that is an answer is 1.10."""

    def __init__(self, text: str) -> None:
        self.written = text


def read_rows(path: Path, encoding: str | None = None) -> Rows:
    """Open the rows of a file.

    JSONL, a JSON array, an object that holds one (``results``, ``memories``, ``edits`` ...), a table with a header
    row, Markdown, or a text: questions and answers marked Q and A, or else a statement a line.

    Raises:
        DatasetError: the file cannot be read, is in another encoding, or is no text.
        MissingExtraError: it is packed in a way that an optional package is needed for.
    """
    raw, kind = read_bytes(path), file_kind(path)
    other = next((what for begin, what in _OTHER if raw.startswith(begin)), None)
    if other is not None:
        raise DatasetError(other, path=str(path))
    json_alike = kind in _JSON or raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    text, guessed = decode(raw, path, encoding, guess=not json_alike)
    notes = (f"read as {guessed}; where letters look wrong, give the encoding (--encoding)",) if guessed else ()
    if not json_alike and kind in _MARKDOWN:
        return markdown_rows(text, notes)
    if not json_alike and (kind in _TABLES or looks_like_table(text)):
        return table_rows(text, path, "\t" if kind in (".tsv", ".tab") else None, notes)
    if not json_alike and marks_questions(text):
        return markdown_rows(text, notes)
    if not json_alike and kind == ".txt":
        return Rows(partial(_statements, text), as_lines, ".txt", notes=notes)
    return _json_rows(text, path)


def _statements(text: str) -> Iterator[RawRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield RawRow(Place(number), line, {"statement": line.strip()})


def _json_rows(text: str, path: Path) -> Rows:
    start = text.lstrip()
    if start.startswith("["):
        return _array_rows(text, text.index("["), path)
    if start.startswith("{") and (inside := _list_inside(text)) is not None:
        return _array_rows(text, inside, path)
    if start.startswith("{") and (whole := _whole_object(start)) is not None:
        return Rows(partial(iter, [RawRow(Place(1), start, whole)]), as_lines, ".json")
    return Rows(partial(_lines, text), as_lines, ".jsonl")


def _whole_object(text: str) -> Mapping[str, Any] | None:
    """Return the one object that a whole text is, where it stands on several lines."""
    if "\n" not in text.strip():
        return None
    try:
        found = json.loads(text, parse_constant=_refuse, parse_float=WrittenFloat)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Mapping) else None


def _array_rows(text: str, start: int, path: Path) -> Rows:
    def joined(texts: Any) -> str:
        return "[\n" + ",\n".join(texts) + "\n]\n"

    return Rows(partial(_array, text, start, path), joined, ".json")


def _lines(text: str) -> Iterator[RawRow]:
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also cut at U+2028 inside texts
        if line.strip():
            try:
                row = json.loads(line, parse_constant=_refuse, parse_float=WrittenFloat)
            except (ValueError, RecursionError) as error:
                yield RawRow(Place(number), line, problem=f"is not JSON: {error}")
            else:
                yield _object(Place(number), line, row)


def _object(place: Place, text: str, row: Any) -> RawRow:
    if isinstance(row, Mapping):
        return RawRow(place, text, row)
    if isinstance(row, str):
        return RawRow(place, text, {"statement": row})
    return RawRow(place, text, problem=f"expected a JSON object, got {type(row).__name__}")


def _list_inside(text: str) -> int | None:
    """Where the list of rows begins in a whole-document object, None for JSONL."""
    try:
        first = json.loads(text.lstrip().split("\n", 1)[0])
    except (ValueError, RecursionError):
        first = None  # an object over several lines, or one that is refused when it is read
    if first is not None and not any(isinstance(first.get(name), list) for name in _LISTS):
        return None
    places = [text.find(f'"{name}"') for name in _LISTS]
    found = min((place for place in places if place >= 0), default=-1)
    bracket = text.find("[", found)
    return bracket if found >= 0 and bracket >= 0 else None


def _array(text: str, start: int, path: Path) -> Iterator[RawRow]:
    """Decode an array element by element, so that each has its line."""
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=WrittenFloat)
    place, line, counted, number = _skip(text, start + 1), 1, 0, 0
    while place < len(text) and text[place] != "]":
        line, counted, number = line + text.count("\n", counted, place), place, number + 1
        at = Place(line, number)
        try:
            row, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise at.error(f"is not JSON: {error}", str(path)) from error
        yield _object(at, text[place:end], row)
        place = _skip(text, end)
        if place < len(text) and text[place] == ",":
            place = _skip(text, place + 1)
        elif place >= len(text) or text[place] != "]":
            line += text.count("\n", counted, place)
            raise DatasetError("the array ends in the middle or lacks a comma", path=str(path), line=line)
    if place >= len(text):
        raise DatasetError("the array is never closed; the file was probably cut", path=str(path), line=line)


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
