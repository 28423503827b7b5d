"""Questions and answers under the names people give them, in a table's columns or an object's fields."""

from collections.abc import Mapping
from typing import Any

from memedit.errors import FieldError, InputError
from memedit.memory.formats.base import JsonRow, Parsed, target_of, text_of
from memedit.memory.formats.columns import field_of_column
from memedit.types import Edit

_FIELDS = ("prompt", "target", "subject", "ground_truth", "source", "kind", "valid_at", "invalid_at")


class QuestionsFormat:
    """``question, answer`` and the like; every other column or field is kept as metadata.

    Args:
        columns: what the file calls the fields of an edit, by field; it comes before what names suggest.

    Raises:
        InputError: an edit has no such field.
    """

    def __init__(self, columns: Mapping[str, str] | None = None) -> None:
        wrong = next((field for field in columns or () if field not in _FIELDS), None)
        if wrong is not None:
            raise InputError(f"--map {wrong}=...: an edit has no such field; there are {', '.join(_FIELDS)}")
        self._columns = dict(columns or {})

    def matches(self, row: JsonRow) -> bool:
        """Rows name a question and an answer in other words than an edit's own fields."""
        found = {field_of_column(name) for name in row}
        return {"prompt", "target"} <= found and not {"prompt", "target"} <= set(row)

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one row."""
        names = self._named(row)
        fields: dict[str, Any] = {name: row[column] for name, column in names.items() if column in row}
        fields["prompt"] = text_of(row, names["prompt"])
        fields["target"] = target_of(row, names["target"])
        used = set(names.values())
        fields["metadata"] = {column: value for column, value in row.items() if column not in used}
        return Parsed(fields, names=names)

    def _named(self, row: JsonRow) -> dict[str, str]:
        """Return the column of each field; the first one whose name fits.

        Raises:
            FieldError: no column is the prompt's or the target's.
        """
        names = dict(self._columns)
        for column in row:
            field = field_of_column(column)
            if field is not None and column not in self._columns.values():
                names.setdefault(field, column)
        for field in ("prompt", "target"):
            if field not in names:
                there = ", ".join(map(repr, row)) or "none"
                raise FieldError(
                    field, f"no column has its name; there are {there}: say which it is with --map {field}=COLUMN"
                )
        return names

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one question with its answer."""
        return {"question": edit.prompt, "answer": edit.target}


FORMAT = QuestionsFormat()
