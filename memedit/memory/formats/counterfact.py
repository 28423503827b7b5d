"""CounterFact: the flat rows of RECIPE, LocFT and WikiBigEdit, the nested rows it was first published as, and requests.

ROME and MEMIT take requests: what stands under ``requested_rewrite`` in a nested row, by itself.
"""

import re
from collections.abc import Mapping
from typing import Any

from memedit.errors import FieldError
from memedit.memory.formats.base import JsonRow, Parsed, first_text, optional_text, rephrasings, target_of, text_of
from memedit.types import Edit

_NAMES = {"target": "target_new"}
_PLACE = re.compile(r"(?<!\S)\{\}(?=$|[\s,.;:?!'’])")
"""Where a subject is to stand; braces inside code are none."""


class CounterFactFormat:
    """``prompt, target_new, subject, ground_truth`` or ``requested_rewrite``; locality prompts are not edits."""

    def matches(self, row: JsonRow) -> bool:
        """Rows have a target_new, or a requested_rewrite that is one object."""
        return "target_new" in row or isinstance(row.get("requested_rewrite"), Mapping)

    def parse(self, row: JsonRow, paraphrases: bool) -> Parsed:
        """Read one row of either shape."""
        metadata = {"case_id": row["case_id"]} if isinstance(row.get("case_id"), int | str) else {}
        if "requested_rewrite" in row:
            return _nested(row, paraphrases, metadata)
        if isinstance(row.get("target_new"), Mapping):
            fields, names = _request(row, "")
            return Parsed({**fields, "metadata": metadata}, names=names)
        others = rephrasings(row.get("rephrase_prompt"), "rephrase_prompt") if paraphrases else ()
        fields = {
            "prompt": _with_subject(text_of(row, "prompt"), optional_text(row, "subject")),
            "target": target_of(row, "target_new"),
            "subject": optional_text(row, "subject"),
            "ground_truth": first_text(row.get("ground_truth"), "ground_truth"),
            "paraphrases": others,
            "metadata": metadata,
        }
        return Parsed(fields, names=_NAMES | {"paraphrases": "rephrase_prompt"})

    def render(self, edit: Edit, number: int) -> dict[str, Any]:
        """Write one flat row."""
        row: dict[str, Any] = {"case_id": edit.metadata.get("case_id", number), "prompt": edit.prompt}
        row |= {"target_new": edit.target, "subject": edit.subject or "", "ground_truth": edit.ground_truth or ""}
        if edit.paraphrases:
            row["rephrase_prompt"] = edit.paraphrases[0] if len(edit.paraphrases) == 1 else list(edit.paraphrases)
        return row


def _with_subject(prompt: str, subject: str | None) -> str:
    """Return a prompt with the subject in the place that it has for one.

    Raises:
        FieldError: there is a place, and no subject.
    """
    if _PLACE.search(prompt) is None:
        return prompt
    if subject is None:
        raise FieldError("subject", f"is missing, and the prompt has a place for it: {prompt[:80]!r}")
    filled, again = _PLACE.sub(lambda _: subject, prompt, count=1), len(_PLACE.findall(prompt)) > 1
    if again:
        raise FieldError("prompt", f"has more than one place for a subject: {prompt[:80]!r}")
    return filled


def _nested(row: JsonRow, paraphrases: bool, metadata: Mapping[str, Any]) -> Parsed:
    """Read a row as first published: a prompt template with ``{}`` for the subject, targets with an ``str``."""
    rewrite = row["requested_rewrite"]
    if not isinstance(rewrite, Mapping):
        raise FieldError("requested_rewrite", f"expected an object, got {type(rewrite).__name__}")
    fields, names = _request(rewrite, "requested_rewrite.")
    others = rephrasings(row.get("paraphrase_prompts"), "paraphrase_prompts") if paraphrases else ()
    return Parsed({**fields, "paraphrases": others, "metadata": metadata}, names=names)


def _request(rewrite: JsonRow, inside: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of a request and their names in the file, in which it stands under ``inside``.

    Targets there begin with the space that stands before them in a sentence; it is no part of the answer.
    """
    subject, template = text_of(rewrite, "subject"), text_of(rewrite, "prompt")
    old = rewrite.get("target_true")
    fields = {
        "prompt": template.replace("{}", subject, 1),
        "target": _string(rewrite.get("target_new"), f"{inside}target_new.str").removeprefix(" "),
        "subject": subject,
        "ground_truth": None if old is None else _string(old, f"{inside}target_true.str").removeprefix(" "),
    }
    names = {"prompt": f"{inside}prompt", "target": f"{inside}target_new.str", "subject": f"{inside}subject"}
    return fields, names


def _string(value: Any, name: str) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("str"), str):
        raise FieldError(name, f"expected an object with a text 'str', got {str(value)[:80]!r}")
    return str(value["str"])


FORMAT = CounterFactFormat()
