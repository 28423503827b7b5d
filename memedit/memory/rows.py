"""Rows of the ``edits`` table: made from drafts, changed into next versions, read back as :class:`Edit`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from memedit.errors import EditChangedError, FieldError, InputError
from memedit.memory.normal import content_hash, lookup_hash, normalise
from memedit.memory.stamps import from_micros, to_micros
from memedit.memory.validation import MAX_METADATA_DEPTH, check_text, metadata_json
from memedit.types import Edit, EditDraft, EditKind, EditState

EditRow = dict[str, Any]
"""Column values of one version of an edit."""

LIVE = (EditState.PENDING.value, EditState.ACTIVE.value, EditState.CONSOLIDATED.value)
"""States of an edit that has not been withdrawn."""

IN_FORCE = (EditState.ACTIVE.value, EditState.CONSOLIDATED.value)
"""States of an edit that answers. Whether a model answers a consolidated one from its weights, or the memory does, is
for the runtime to know: the memory serves many models, and the plain base has none of the edits in its weights."""


def draft_row(draft: EditDraft, namespace: str, *, edit_id: str, now: int) -> EditRow:
    """The row of a new edit, lacking only its ``seq``."""
    row: EditRow = {"version": 1, "id": edit_id, "namespace": namespace, "state": EditState.ACTIVE.value}
    row["created_at"], row["expired_at"] = now, None
    return _filled(row, draft)


def next_row(row: Mapping[str, Any], now: int, draft: EditDraft | None = None, state: str | None = None) -> EditRow:
    """The version after ``row``: with the fields of ``draft`` where given, in ``state`` where given."""
    new = dict(row)
    new["version"] = row["version"] + 1
    new["created_at"], new["expired_at"] = now, None
    if state is not None:
        new["state"] = state
    return new if draft is None else _filled(new, draft)


def _filled(row: EditRow, draft: EditDraft) -> EditRow:
    """Write a draft's fields, and what is derived from them, into ``row``."""
    namespace = row["namespace"]
    row["prompt"], row["target"], row["subject"] = draft.prompt, draft.target, draft.subject
    row["paraphrases"] = json.dumps(draft.paraphrases, ensure_ascii=False) if draft.paraphrases else "[]"
    row["texts"] = 1 + len(draft.paraphrases)
    row["blocks"] = json.dumps(draft.blocks, ensure_ascii=False) if draft.blocks else "[]"
    row["ground_truth"], row["kind"], row["source"] = draft.ground_truth, draft.kind.value, draft.source
    row["metadata"] = metadata_json(draft.metadata)
    row["valid_at"] = None if draft.valid_at is None else to_micros(draft.valid_at)
    row["invalid_at"] = None if draft.invalid_at is None else to_micros(draft.invalid_at)
    row["content_hash"] = content_hash(namespace, draft.prompt, draft.target, draft.subject, draft.paraphrases)
    row["prompt_hash"] = lookup_hash(namespace, draft.prompt)
    row["subject_hash"] = None if draft.subject is None else lookup_hash(namespace, draft.subject)
    return row


def row_texts(row: Mapping[str, Any]) -> list[str]:
    """The texts an edit is found by: its prompt, then its paraphrases."""
    return [row["prompt"]] if row["texts"] == 1 else [row["prompt"], *json.loads(row["paraphrases"])]


def row_edit(row: Mapping[Any, Any]) -> Edit:
    """The edit a row describes."""
    return Edit(
        id=row["id"],
        namespace=row["namespace"],
        prompt=row["prompt"],
        target=row["target"],
        subject=row["subject"],
        paraphrases=() if row["texts"] == 1 else tuple(json.loads(row["paraphrases"])),
        ground_truth=row["ground_truth"],
        kind=EditKind(row["kind"]),
        metadata={} if row["metadata"] == "{}" else _metadata(row["metadata"]),
        source=row["source"],
        created_at=from_micros(row["created_at"]),
        expired_at=None if row["expired_at"] is None else from_micros(row["expired_at"]),
        valid_at=None if row["valid_at"] is None else from_micros(row["valid_at"]),
        invalid_at=None if row["invalid_at"] is None else from_micros(row["invalid_at"]),
        version=row["version"],
        state=EditState(row["state"]),
        content_hash=row["content_hash"],
        blocks=() if row["blocks"] == "[]" else tuple(json.loads(row["blocks"])),
    )


def _metadata(text: str) -> dict[str, Any]:
    """Metadata as they were written; too deep ones, which were let in once, as the text of their JSON."""
    if text.count("[") + text.count("{") <= MAX_METADATA_DEPTH:  # can be no deeper
        return cast(dict[str, Any], json.loads(text))
    try:
        found: dict[str, Any] = json.loads(text)
        metadata_json(found)
    except (RecursionError, FieldError):
        return {"json": text}
    return found


def edit_draft(edit: Edit) -> EditDraft:
    """The draft an edit could have been made from."""
    return EditDraft(**{name: getattr(edit, name) for name in EditDraft.__slots__})


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
