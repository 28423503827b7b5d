"""JSON rows with the lines they stand on, from JSONL and from whole JSON documents."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError
from memedit.memory.formats.base import JsonRow

_LISTS = ("results", "memories", "data")


def numbered_rows(path: Path) -> Iterator[tuple[int, JsonRow]]:
    """Yield (line, row) of every row of a file; blank lines are skipped.

    The file is JSONL, a JSON array of objects, or an object whose ``results``, ``memories`` or ``data`` is one.

    Raises:
        DatasetError: the file cannot be read, is not UTF-8, or is not JSON; names the line.
    """
    text = _text(path)
    start = text.lstrip()
    if start.startswith("["):
        rows = _array(text, text.index("["), path)
    elif start.startswith("{") and (inside := _list_inside(text)) is not None:
        rows = _array(text, inside, path)
    else:
        rows = _lines(text, path)
    for line, row in rows:
        if not isinstance(row, Mapping):
            raise DatasetError(f"expected a JSON object, got {type(row).__name__}", path=str(path), line=line)
        yield line, row


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}", path=str(path)) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"is not UTF-8: byte {raw[error.start]:#04x}", path=str(path), line=line) from error


def _lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also cut at U+2028 inside texts
        if line.strip():
            try:
                yield number, json.loads(line, parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"is not JSON: {error}", path=str(path), line=number) from error


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


def _array(text: str, start: int, path: Path) -> Iterator[tuple[int, Any]]:
    """Decode an array element by element, so that each has its line."""
    decoder = json.JSONDecoder(parse_constant=_refuse)
    place, line, counted = _skip(text, start + 1), 1, 0
    while place < len(text) and text[place] != "]":
        line += text.count("\n", counted, place)
        counted = place
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"is not JSON: {error}", path=str(path), line=line) from error
        yield line, row
        place = _skip(text, place)
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
