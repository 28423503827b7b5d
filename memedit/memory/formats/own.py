"""memedit's own form: one JSON object a line, the fields of an edit under their own names."""

from dataclasses import fields
from typing import Any

from memedit.errors import FieldError
from memedit.memory.formats.base import JsonRow, Parsed, checked_text, target_of
from memedit.registry import unknown_name_message
from memedit.types import Edit, EditDraft, EditState

_DRAFT = tuple(field.name for field in fields(EditDraft))
_ALL = ("id", *_DRAFT, "state")


class OwnFormat:
    """Every field but times of storing and past versions; only prompt and target are needed."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have a prompt and a target."""
        return "prompt" in row and "target" in row and set(row) <= set(_ALL)

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one row; a field that edits do not have is an error, as it is most likely misspelt."""
        for name in row:
            if name not in _ALL:
                raise FieldError(name, unknown_name_message("field of an edit", name, list(_ALL)))
        for name in ("prompt", "target"):
            if name not in row:
                raise FieldError(name, "is missing")
        state = row.get("state", EditState.ACTIVE.value)
        if state not in (EditState.PENDING.value, EditState.ACTIVE.value, EditState.CONSOLIDATED.value):
            raise FieldError("state", f"{state!r} is none of pending, active, consolidated")
        if state == EditState.CONSOLIDATED.value:  # weights do not travel with the file
            state = EditState.ACTIVE.value
        edit_id = None if row.get("id") is None else checked_text(row["id"], "id")
        fields = {name: row[name] for name in _DRAFT if name in row}
        return Parsed({**fields, "target": target_of(row, "target")}, edit_id, state)

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one edit; fields that say nothing are left out."""
        row: dict[str, Any] = {"id": edit.id, "prompt": edit.prompt, "target": edit.target, "subject": edit.subject}
        row |= {
            "paraphrases": list(edit.paraphrases),
            "blocks": list(edit.blocks),
            "ground_truth": edit.ground_truth,
            "kind": edit.kind.value,
        }
        row |= {"metadata": dict(edit.metadata), "source": edit.source, "state": edit.state.value}
        row |= {"valid_at": edit.valid_at and edit.valid_at.isoformat()}
        row |= {"invalid_at": edit.invalid_at and edit.invalid_at.isoformat()}
        return {name: value for name, value in row.items() if value not in (None, [], {})}


FORMAT = OwnFormat()
