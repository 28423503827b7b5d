"""Rows of the ``edits`` table: made from drafts, changed into next versions, read back as :class:`Edit`."""

import json
from collections.abc import Mapping
from typing import Any, cast

from memedit.errors import FieldError
from memedit.memory.normal import content_hash, lookup_hash
from memedit.memory.times import from_micros, to_micros
from memedit.memory.validation import MAX_METADATA_DEPTH, metadata_json
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
