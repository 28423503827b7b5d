"""zsRE as used for editing (MEND, ROME): a question, the answers it had, and the answer to put in."""

from typing import Any

from memedit.memory.formats.base import JsonRow, Parsed, first_text, optional_text, rephrasings, target_of, text_of
from memedit.types import Edit


class ZsreFormat:
    """``src`` is the prompt, ``alt`` the target, ``answers`` the ground truth; ``loc`` is not an edit."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have src and alt."""
        return "src" in row and "alt" in row

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one row."""
        truth = row.get("answers") or row.get("pred")
        fields = {
            "prompt": text_of(row, "src"),
            "target": target_of(row, "alt"),
            "subject": optional_text(row, "subject"),
            "ground_truth": first_text(truth, "answers"),
            "paraphrases": rephrasings(row.get("rephrase"), "rephrase") if paraphrases else (),
        }
        names = {"prompt": "src", "target": "alt", "ground_truth": "answers", "paraphrases": "rephrase"}
        return Parsed(fields, names=names)

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one row."""
        row: dict[str, Any] = {"subject": edit.subject or "", "src": edit.prompt, "alt": edit.target}
        row["answers"] = [] if edit.ground_truth is None else [edit.ground_truth]
        if edit.paraphrases:
            row["rephrase"] = edit.paraphrases[0] if len(edit.paraphrases) == 1 else list(edit.paraphrases)
        return row


FORMAT = ZsreFormat()
