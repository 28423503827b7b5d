"""What an answer is to hold to, as callers say it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from memedit.errors import StructureError

_LARGEST = 256 << 10
"""Bytes of a schema, pattern or grammar."""

_DEEPEST = 64


class StructureKind(StrEnum):
    """Ways to say what an answer may be."""

    JSON = "json"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer has to be. Equal structures are compiled once.

    ``text`` is a JSON schema as JSON, a regular expression, a JSON list of answers, or a grammar in Lark's or
    llama.cpp's notation. ``MIXED`` is Lark as it is, for text in which something structured may stand (tool calls).
    """

    kind: StructureKind
    text: str

    @classmethod
    def json(cls, schema: Mapping[str, Any] | bool | str | None = None) -> Self:
        """Return a structure of JSON that a schema (draft 2020-12) describes; any object without one.

        Raises:
            StructureError: it is no JSON, nested deeper than 64, or larger than 256 KiB.
        """
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except (ValueError, RecursionError) as error:
                raise StructureError(f"the schema is no JSON ({error}); give an object") from error
        if not isinstance(schema, Mapping | bool | None):
            raise StructureError(f"a JSON schema is an object, not {schema!r:.80}")
        found: Any = {"type": "object"} if schema is None else schema
        _check_depth(found, _DEEPEST)
        try:
            text = json.dumps(found, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StructureError(f"the schema cannot be written as JSON: {error}") from error
        return cls(StructureKind.JSON, _checked(text, "schema"))

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """Return a structure of texts that a regular expression (Rust's syntax, no look-around) matches as a whole.

        Raises:
            StructureError: it is empty or larger than 256 KiB.
        """
        return cls(StructureKind.REGEX, _checked(pattern, "pattern"))

    @classmethod
    def choice(cls, answers: Sequence[str]) -> Self:
        """Return a structure of one of these answers.

        Raises:
            StructureError: there is none, one is empty or no text.
        """
        found = list(answers) if isinstance(answers, Sequence) and not isinstance(answers, str) else []
        if not found or not all(isinstance(one, str) and one for one in found):
            raise StructureError(f"a choice is a list of texts that are not empty, not {answers!r:.80}")
        return cls(StructureKind.CHOICE, _checked(json.dumps(list(dict.fromkeys(found))), "choice"))

    @classmethod
    def grammar(cls, text: str) -> Self:
        """Return a structure of texts of a context-free grammar: Lark's notation, or llama.cpp's (``root ::= ...``).

        Raises:
            StructureError: it is empty or larger than 256 KiB.
        """
        return cls(StructureKind.GRAMMAR, _checked(text, "grammar"))

    @classmethod
    def mixed(cls, lark: str) -> Self:
        """Return a structure of text with something structured in it, as a Lark grammar."""
        return cls(StructureKind.MIXED, _checked(lark, "grammar"))

    @property
    def schema(self) -> Any:
        """The JSON schema; None for other kinds."""
        return json.loads(self.text) if self.kind is StructureKind.JSON else None

    @property
    def choices(self) -> list[str]:
        """The answers to choose from; empty for other kinds."""
        return list(json.loads(self.text)) if self.kind is StructureKind.CHOICE else []


def as_structure(value: Any) -> Structure:
    """Return a structure: one as it is, a JSON schema as a mapping, or a pydantic model's.

    Raises:
        StructureError: it is none of these.
    """
    if isinstance(value, Structure):
        return value
    if isinstance(value, Mapping):
        return Structure.json(value)
    schema = getattr(value, "model_json_schema", None)
    if callable(schema):
        return Structure.json(schema())
    raise StructureError(
        f"structured={value!r:.80} says no structure; give a JSON schema, a pydantic model, or Structure.json(), "
        ".regex(), .choice() or .grammar()"
    )


def _checked(text: Any, what: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise StructureError(f"the {what} is {text!r:.80}; give text that is not empty")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > _LARGEST:
        raise StructureError(f"the {what} has {size:,} bytes, more than {_LARGEST:,}; make it smaller")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StructureError(f"the {what} holds a lone surrogate, which no answer can; remove it") from error
    return text


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise StructureError(f"the schema is nested deeper than {_DEEPEST}; use $defs, or make it flatter")
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        _check_depth(part, left - 1)
