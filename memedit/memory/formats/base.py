"""What a file format is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from memedit.errors import FieldError
from memedit.types import Edit, EditState

JsonRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parsed:
    """One row read: ``fields`` of an :class:`EditDraft`; ``names`` says what the file calls them, for messages."""

    fields: Mapping[str, Any]
    id: str | None = None
    state: str = EditState.ACTIVE.value
    names: Mapping[str, str] = field(default_factory=dict)


class Format(Protocol):
    """Rows to drafts and back. A module with these three functions is a format."""

    def matches(self, row: JsonRow) -> bool:
        """Whether a file whose first row is this one is of this format."""

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one row; ``paraphrases`` takes over published rephrasings."""

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one edit, the ``number``-th of the file."""


def text_of(row: JsonRow, name: str) -> str:
    """The text under ``name``.

    Raises:
        FieldError: it is missing or no text.
    """
    if name not in row:
        raise FieldError(name, f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'}")
    return checked_text(row[name], name)


def target_of(row: JsonRow, name: str) -> str:
    """The answer under ``name``: text, or a number as it is written.

    Raises:
        FieldError: it is missing or neither.
    """
    value = row.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(getattr(value, "written", value))
    return text_of(row, name)


def checked_text(value: Any, name: str) -> str:
    """``value`` when it is text.

    Raises:
        FieldError: it is not.
    """
    if not isinstance(value, str):
        raise FieldError(name, f"expected text, got {type(value).__name__} {str(value)[:80]!r}")
    return value


def optional_text(row: JsonRow, name: str) -> str | None:
    """The text under ``name``, None when it is absent, null or blank."""
    value = row.get(name)
    if value is None:
        return None
    return checked_text(value, name) if not isinstance(value, str) or value.strip() else None


def first_text(value: Any, name: str) -> str | None:
    """The first text in a value that published sets give as text or as nested lists of accepted answers."""
    while isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            return None
        value = value[0]
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return checked_text(value, name)


def rephrasings(value: Any, name: str) -> tuple[str, ...]:
    """One rephrasing or a list of them."""
    if value is None or value == "":
        return ()
    many = [value] if isinstance(value, str) else value
    if not isinstance(many, list):
        raise FieldError(name, f"expected text or a list of texts, got {type(value).__name__}")
    return tuple(checked_text(text, name) for text in many)
