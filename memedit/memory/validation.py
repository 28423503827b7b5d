"""Checking what an author wrote, before anything is stored."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import partial
from typing import Any

from memedit.errors import FieldError
from memedit.memory.normal import normalise
from memedit.memory.stamps import FIRST, LAST
from memedit.registry import unknown_name_message
from memedit.types import EditDraft, EditKind
from memedit.zones import noticed

MAX_TEXT_BYTES = 65_536
"""Longest prompt, target, subject, paraphrase, ground truth or source, in UTF-8 bytes. A prompt is matched and a
target is said by a language model; what is longer than any model's context cannot be either."""

MAX_METADATA_BYTES = 262_144
"""Longest metadata, as JSON in UTF-8 bytes."""

MAX_METADATA_DEPTH = 50
"""Deepest nesting of metadata: what is deeper cannot be read everywhere."""

MAX_PARAPHRASES = 1_000
"""Most paraphrases of one edit, and most blocks."""

MAX_NAMESPACE_BYTES = 255
"""Longest namespace name, in UTF-8 bytes."""

_FIELDS = frozenset(field.name for field in fields(EditDraft))


def check_text(value: Any, field: str, *, limit: int = MAX_TEXT_BYTES, blank: bool = False) -> str:
    """Return ``value`` as it is when it is text that can be stored.

    Raises:
        FieldError: not a string, blank, too long, or holds a NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise FieldError(field, f"expected text, got {type(value).__name__} {str(value)[:80]!r}")
    if len(value) > limit or (not value.isascii() and len(_utf8(value, field)) > limit):
        raise FieldError(field, f"{len(value):,} characters are too long; at most {limit:,} bytes of UTF-8 are stored")
    if "\0" in value:
        raise FieldError(field, f"holds a NUL character at position {value.index(chr(0))}; remove it")
    if not blank and not value.strip():
        raise FieldError(field, f"is blank ({value!r}); give it some text")
    return value


def _utf8(value: str, field: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise FieldError(
            field,
            f"holds a lone surrogate (U+{ord(value[error.start]):04X}) at position {error.start}, "
            "which is not a character; the text was probably cut or decoded wrongly",
        ) from None


def check_namespace(value: Any) -> str:
    """Return a usable namespace name.

    Raises:
        FieldError: not a string, blank, too long, or not encodable.
    """
    return check_text(value, "namespace", limit=MAX_NAMESPACE_BYTES)


def metadata_json(value: Any) -> str:
    """The JSON text of an edit's metadata, keys sorted.

    Raises:
        FieldError: not a mapping with text keys, holds what JSON cannot, or is too long.
    """
    if not isinstance(value, Mapping):
        raise FieldError("metadata", f"expected a mapping, got {type(value).__name__}")
    if not value:
        return "{}"
    for key in value:
        if not isinstance(key, str):
            raise FieldError("metadata", f"keys are text, got {key!r} ({type(key).__name__})")
    try:
        text = json.dumps(dict(value), ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FieldError("metadata", f"cannot be written as JSON: {error}") from None
    if not _within(value, MAX_METADATA_DEPTH):
        raise FieldError("metadata", f"is nested more than {MAX_METADATA_DEPTH} deep; flatten it, or store it as text")
    size = len(_utf8(text, "metadata"))
    if size > MAX_METADATA_BYTES:
        raise FieldError("metadata", f"{size:,} bytes as JSON; at most {MAX_METADATA_BYTES:,} are stored")
    return text


def _within(value: Any, depth: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return depth > 0 and all(_within(part, depth - 1) for part in value)


def check_time(value: Any, field: str) -> datetime | None:
    """Return a timezone-aware time or None; ISO 8601 text is read. A time without a zone is UTC, with a warning.

    Raises:
        FieldError: no time, or one that some time zone cannot write.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise FieldError(field, f"{value!r} is not an ISO 8601 time, such as 2026-01-31T12:00:00+00:00") from None
    if not isinstance(value, datetime):
        raise FieldError(field, f"expected a datetime, got {type(value).__name__} {value!r}")
    value = noticed(value, field)
    if not FIRST <= value <= LAST:
        raise FieldError(
            field,
            f"{value.isoformat()} is at the edge of the calendar, where other time zones have no date for it; give a "
            f"time from {FIRST.date()} to {LAST.date()}, or leave it out for always",
        )
    return value


def check_kind(value: Any) -> EditKind:
    """Return the edit kind named ``value``.

    Raises:
        FieldError: no such kind.
    """
    if type(value) is EditKind:
        return value
    try:
        return EditKind(value)
    except ValueError:
        raise FieldError("kind", unknown_name_message("edit kind", str(value), [str(k) for k in EditKind])) from None


def _texts(value: Any, field: str) -> tuple[str, ...]:
    if not value and isinstance(value, tuple | list):
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise FieldError(field, f"expected a list of texts, got {type(value).__name__}")
    if len(value) > MAX_PARAPHRASES:
        raise FieldError(field, f"{len(value):,} {field}; at most {MAX_PARAPHRASES:,} are stored")
    return tuple(check_text(text, f"{field}[{i}]") for i, text in enumerate(value))


def _check_blocks(draft: EditDraft) -> None:
    """Refuse a block that is one of the edit's own texts: the edit cannot both fire on it and not."""
    own = {normalise(text) for text in (draft.prompt, *draft.paraphrases)} if draft.blocks else set()
    for i, text in enumerate(draft.blocks):
        if normalise(text) in own:
            raise FieldError(
                f"blocks[{i}]",
                f"{text[:80]!r} is the edit's own prompt or a paraphrase of it, on which it must fire; "
                "take it out of one of the two",
            )


def _getter(value: Any) -> Callable[..., Any]:
    """How to read a field of an :class:`EditDraft` or of a mapping that has no other fields."""
    if isinstance(value, EditDraft):
        return partial(getattr, value)
    if not isinstance(value, Mapping):
        raise FieldError("edit", f"expected an EditDraft or a mapping, got {type(value).__name__}")
    if not value.keys() <= _FIELDS:
        name = next(str(name) for name in value if name not in _FIELDS)
        raise FieldError(name, unknown_name_message("field of an edit", name, sorted(_FIELDS)))
    return value.get


def check_draft(value: Any) -> EditDraft:
    """Check every field of an :class:`EditDraft` or a mapping of its fields.

    Raises:
        FieldError: a field is missing, unknown or cannot be used; names the field and the value.
    """
    get = _getter(value)
    subject, ground_truth, source = get("subject"), get("ground_truth"), get("source")
    draft = EditDraft(
        prompt=check_text(get("prompt"), "prompt"),
        target=check_text(get("target"), "target"),
        subject=None if subject is None else check_text(subject, "subject"),
        paraphrases=_texts(get("paraphrases", ()), "paraphrases"),
        ground_truth=None if ground_truth is None else check_text(ground_truth, "ground_truth", blank=True),
        kind=check_kind(get("kind", EditKind.FACT)),
        metadata=get("metadata") or {},
        source=None if source is None else check_text(source, "source", blank=True),
        valid_at=check_time(get("valid_at"), "valid_at"),
        invalid_at=check_time(get("invalid_at"), "invalid_at"),
        blocks=_texts(get("blocks", ()), "blocks"),
    )
    _check_blocks(draft)
    if draft.valid_at and draft.invalid_at and draft.valid_at >= draft.invalid_at:
        raise FieldError("invalid_at", f"{draft.invalid_at} is not after valid_at ({draft.valid_at})")
    return draft
