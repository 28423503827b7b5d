"""Strict, streaming reading of data files: every error names file, line and field."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from memedit.errors import DatasetError

_SHOWN = 80


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Row = TypeVar("Row", bound=_Dataclass)


class Record:
    """One JSON object of a data file, read field by field.

    ``where`` is the field's path so far ("locality.Relation_Specificity[2]"), for messages.
    """

    def __init__(self, values: Mapping[str, Any], path: str, line: int, where: str = "") -> None:
        self.values, self.path, self.line, self.where = values, path, line, where

    def error(self, message: str, field: str | None = None) -> DatasetError:
        """Return the error for ``field`` of this record."""
        name = self._name(field) if field is not None else (self.where or None)
        return DatasetError(message, path=self.path, line=self.line, field=name)

    def has(self, field: str) -> bool:
        """Say whether the field is there and not null."""
        return self.values.get(field) is not None

    def text(self, field: str, *, empty: bool = False) -> str:
        """Return a string field.

        Raises:
            DatasetError: it is missing, not a string, blank (unless ``empty`` allows that), or not valid Unicode.
        """
        return self._checked(self._value(field), field, empty=empty)

    def optional_text(self, field: str) -> str | None:
        """Return a string field, or None where it is missing, null or blank."""
        if not self.has(field):
            return None
        text = self.text(field, empty=True)
        return text if text.strip() else None

    def texts(self, field: str) -> tuple[str, ...]:
        """Return the strings of a field: a string, or lists of strings nested to any depth. Blank ones are left out.

        KnowEdit gives an answer as a string, as a list of aliases, or as one list of aliases for each correct value.
        """
        found = dict.fromkeys(text for text in self._flatten(self._value(field), field) if text.strip())
        return tuple(found)

    def record(self, field: str) -> "Record":
        """Return an object field."""
        return self._record(self._value(field), field)

    def records(self, field: str, *, some: bool = False) -> list["Record"]:
        """Return a field that is a list of objects; with ``some`` it must hold at least one."""
        values = self._value(field)
        if not isinstance(values, list):
            raise self.error(f"expected a list of objects, found {_shown(values)}", field)
        if some and not values:
            raise self.error("expected at least one object, found an empty list", field)
        return [self._record(value, f"{field}[{i}]") for i, value in enumerate(values)]

    def _value(self, field: str) -> Any:
        if field not in self.values:
            raise self.error(f"the field is missing; this row has {', '.join(self.values) or 'no fields'}", field)
        return self.values[field]

    def _record(self, value: Any, field: str) -> "Record":
        if not isinstance(value, dict):
            raise self.error(f"expected an object, found {_shown(value)}", field)
        return Record(value, self.path, self.line, self._name(field))

    def _flatten(self, value: Any, field: str) -> Iterator[str]:
        if isinstance(value, list):
            for i, item in enumerate(value):
                yield from self._flatten(item, f"{field}[{i}]")
        else:
            yield self._checked(value, field, empty=True)

    def _checked(self, value: Any, field: str, *, empty: bool) -> str:
        if not isinstance(value, str):
            raise self.error(f"expected a string, found {_shown(value)}", field)
        if not empty and not value.strip():
            raise self.error("expected text, found a blank string", field)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.error(f"not valid Unicode: {error.reason} at character {error.start}", field) from error
        return value

    def _name(self, field: str) -> str:
        return f"{self.where}.{field}" if self.where else field


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the objects of a JSON Lines file, or of a file that holds one JSON array, one after another.

    Messages name the file without its folder.

    Raises:
        DatasetError: the file is absent, empty, not UTF-8, or holds something else; a line is cut off or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError("no such file; check the path given as --data", path=path.name)
    if _first_character(path) == "[":
        yield from _array(path)
        return
    found = False
    for number, line in _lines(path):
        if not line.strip():
            continue
        found = True
        yield Record(_parsed(line, path, number), path.name, number)
    if not found:
        raise DatasetError("the file holds no rows", path=path.name)


def read_as(kind: type[Row], path: str | Path) -> list[Row]:
    """Return the rows of a file as dataclasses of one kind, whose fields are the rows' fields.

    Raises:
        DatasetError: as :func:`read_records`; a row lacks a field or has one more.
    """
    rows = []
    for record in read_records(path):
        try:
            rows.append(kind(**record.values))
        except TypeError as error:
            names = ", ".join(field.name for field in fields(kind))
            raise record.error(f"expected an object with {names}: {error}") from error
    return rows


def _first_character(path: Path) -> str:
    for _, line in _lines(path):
        if line.strip():
            return line.lstrip()[0]
    return ""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as source:
        for number, raw in enumerate(source, start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                message = f"not UTF-8 text (byte {raw[error.start]:#04x} at column {error.start + 1})"
                raise DatasetError(message, path=path.name, line=number) from error


def _parsed(line: str, path: Path, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        cut = "" if line.endswith("\n") else "; the line has no end, so the file may be cut off"
        message = f"not valid JSON: {error.msg} at column {error.colno}{cut}"
        raise DatasetError(message, path=path.name, line=number) from error
    except RecursionError as error:
        raise DatasetError("not valid JSON: nested too deep", path=path.name, line=number) from error
    if not isinstance(value, dict):
        raise DatasetError(f"expected a JSON object, found {_shown(value)}", path=path.name, line=number)
    return value


def _array(path: Path) -> Iterator[Record]:
    """Yield the objects of one JSON array; only one of them is held as Python objects at a time."""
    text = "".join(line for _, line in _lines(path))
    decoder, at, line, found = json.JSONDecoder(), text.index("[") + 1, 1, False
    counted = 0
    while True:
        while at < len(text) and (text[at].isspace() or (found and text[at] == ",")):
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if at >= len(text):
            raise DatasetError("the JSON array has no end, so the file is cut off", path=path.name, line=line)
        if text[at] == "]":
            break
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise DatasetError(f"not valid JSON: {error.msg}", path=path.name, line=error.lineno) from error
        if not isinstance(value, dict):
            raise DatasetError(f"expected a JSON object, found {_shown(value)}", path=path.name, line=line)
        found = True
        yield Record(value, path.name, line)
    if not found:
        raise DatasetError("the file holds no rows", path=path.name)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, float) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
