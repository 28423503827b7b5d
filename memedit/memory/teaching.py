"""What one text more that must, or must not, fire an edit changes about it."""

from collections.abc import Sequence
from typing import Any

from memedit.errors import FieldError
from memedit.memory.normal import normalise
from memedit.memory.validation import check_text
from memedit.types import Edit


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
