"""What a change of an edit asks for, and whether it may be made."""

from collections.abc import Mapping, Sequence
from typing import Any

from memedit.errors import EditChangedError, FieldError, InputError
from memedit.memory.normal import normalise
from memedit.memory.rows import EditRow, edit_draft, row_edit
from memedit.memory.validation import check_text
from memedit.types import Edit, EditDraft, EditKind, EditState


def interval(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """When the edit holds in the world: from, until."""
    return row["valid_at"], row["invalid_at"]


def at_version(row: EditRow, version: int | None) -> EditRow:
    """Return the row; None is any version.

    Raises:
        EditChangedError: it is not at this version.
    """
    if version is not None and row["version"] != version:
        raise EditChangedError(row["id"], version, row["version"])
    return row


def not_withdrawn(row: EditRow) -> EditRow:
    """Return the row.

    Raises:
        InputError: the edit has been withdrawn.
    """
    if row["state"] == EditState.RETIRED.value:
        raise InputError(f"edit {row['id']} has been withdrawn; restore it first, or add a new edit")
    return row


def merged(row: EditRow, values: Mapping[str, Any]) -> dict[str, Any]:
    """The draft fields of ``row`` with ``values`` put over them."""
    draft = edit_draft(row_edit(row))
    fields = {name: getattr(draft, name) for name in EditDraft.__slots__} | dict(values)
    if "prompt" in values and "subject" not in values:
        fields["subject"] = None  # the old subject need not stand in the new prompt: it is found again
    if draft.kind is EditKind.STATEMENT and "prompt" in values and "target" not in values:
        fields["target"] = fields["prompt"]  # and so is the value
    elif draft.kind is EditKind.STATEMENT and "target" in values and "prompt" not in values:
        fields["prompt"] = draft.prompt.replace(draft.target, str(values["target"]))
    return fields


def split_state(values: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Part the changes of an edit's fields from its new state, None when that stays.

    Raises:
        FieldError: no such state, or one that is reached in another way.
    """
    fields = dict(values)
    state = fields.pop("state", None)
    if state is None:
        return fields, None
    try:
        wanted = EditState(state)
    except ValueError:
        raise FieldError("state", f"{state!r} is none of {', '.join(EditState)}") from None
    if wanted is EditState.RETIRED:
        raise FieldError("state", "an edit is withdrawn with delete() and brought back with restore()")
    return fields, wanted.value


def same_row(old: EditRow, new: EditRow) -> bool:
    """Whether a change changes nothing."""
    return all(old[name] == new[name] for name in new if name not in ("version", "created_at", "expired_at"))


def says_else(old: EditRow, new: EditRow) -> bool:
    """Whether a change may make an edit contradict others that it did not contradict before."""
    return any(old[name] != new[name] for name in ("prompt", "target", "subject", "valid_at", "invalid_at"))


def blocked(edit: Edit, text: str, *, remove: bool) -> dict[str, Any]:
    """Return the fields that change when ``text`` must not fire the edit; ``remove``: when it need not be silent.

    Raises:
        FieldError: the text cannot be stored, or is the edit's own prompt; with ``remove`` it is no block.
    """
    check_text(text, "text")
    if remove:
        return {"blocks": _without(edit.blocks, text, "a block")}
    return {"blocks": _with(edit.blocks, text), "paraphrases": _others(edit.paraphrases, text)}


def paraphrased(edit: Edit, text: str, *, remove: bool) -> dict[str, Any]:
    """Return the fields that change when ``text`` must fire the edit; ``remove``: when it need not.

    Raises:
        FieldError: the text cannot be stored; with ``remove`` it is no paraphrase.
    """
    check_text(text, "text")
    if remove:
        return {"paraphrases": _without(edit.paraphrases, text, "a paraphrase")}
    if normalise(text) == normalise(edit.prompt):
        return {}
    return {"paraphrases": _with(edit.paraphrases, text), "blocks": _others(edit.blocks, text)}


def _with(texts: Sequence[str], text: str) -> tuple[str, ...]:
    known = normalise(text) in map(normalise, texts)
    return tuple(texts) if known else (*texts, text)


def _others(texts: Sequence[str], text: str) -> tuple[str, ...]:
    return tuple(other for other in texts if normalise(other) != normalise(text))


def _without(texts: Sequence[str], text: str, what: str) -> tuple[str, ...]:
    kept = _others(texts, text)
    if len(kept) == len(texts):
        has = ", ".join(repr(other[:60]) for other in texts) or "none"
        raise FieldError("text", f"{text[:80]!r} is not {what} of this edit; it has {has}")
    return kept
