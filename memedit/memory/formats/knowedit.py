"""KnowEdit: facts with portability and locality questions, and its WikiBio passages."""

from collections.abc import Mapping
from typing import Any

from memedit.memory.formats.base import JsonRow, Parsed, first_text, optional_text, target_of, text_of
from memedit.types import Edit, EditKind


class KnowEditFormat:
    """``prompt, target_new, subject``; for WikiBio ``text, labels, concept``. The questions are not edits."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have their locality or portability questions grouped in an object, or are WikiBio passages."""
        grouped = any(isinstance(row.get(name), Mapping) for name in ("locality", "portability"))
        return ("target_new" in row and grouped) or {"text", "labels", "concept"} <= set(row)

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one row."""
        if "labels" in row:
            passage = {
                "prompt": text_of(row, "text"),
                "target": text_of(row, "labels"),
                "subject": optional_text(row, "concept"),
                "kind": EditKind.LONG_FORM,
            }
            return Parsed(passage, names={"prompt": "text", "target": "labels", "subject": "concept"})
        fields = {
            "prompt": text_of(row, "prompt"),
            "target": target_of(row, "target_new"),
            "subject": optional_text(row, "subject"),
            "ground_truth": first_text(row.get("ground_truth"), "ground_truth"),
        }
        return Parsed(fields, names={"target": "target_new"})

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one row; a long-form edit as a passage."""
        if edit.kind is EditKind.LONG_FORM:
            return {"text": edit.prompt, "labels": edit.target, "concept": edit.subject or "", "locality": {}}
        row: dict[str, Any] = {"subject": edit.subject or "", "prompt": edit.prompt, "target_new": edit.target}
        return row | {"ground_truth": edit.ground_truth or "", "portability": {}, "locality": {}}


FORMAT = KnowEditFormat()
