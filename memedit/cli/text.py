"""Values made safe to print: plain JSON values, and text that cannot drive the terminal."""

import dataclasses
import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.types import ChainHop

_KEPT = "\n\t"
# Cc: control characters; Cf would also hide joiners that many scripts need, so only the bidi overrides of it are shown.
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """Return ``text`` with control characters, bidi overrides and lone surrogates written as escapes.

    Stored text is data: printed raw, an escape sequence in it could move the cursor or rewrite what was shown before. A
    carriage return before a line feed does neither and stays.
    """
    lines = text.split("\r\n")
    return "\r\n".join("".join(_escape(char) if _unsafe(char) else char for char in line) for line in lines)


def one_line(text: str, width: int = 60) -> str:
    """Return ``text`` on one line of at most ``width`` characters, for tables."""
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def chain_text(chain: "Sequence[ChainHop]") -> str:
    """Return the hops of a chain on one line; one without an edit is the model's to answer."""
    return " | ".join(f"{one_line(hop.question)} -> {_hop_value(hop)}" for hop in chain)


def _hop_value(hop: "ChainHop") -> str:
    said = one_line(hop.value, 30)
    return said if hop.edit_id else f"{said} (the model)".lstrip()


def plain(value: Any) -> Any:
    """Return ``value`` as JSON types.

    Dataclasses and named tuples become objects, times ISO 8601 strings, NaN and infinities null.
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | PurePath):
        return value.hex() if isinstance(value, bytes) else str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, tensors
        return plain(value.tolist())
    return str(value)


def _unsafe(char: str) -> bool:
    if char in _KEPT:
        return False
    return char in _BIDI_OVERRIDES or unicodedata.category(char) in {"Cc", "Cs"}


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"
