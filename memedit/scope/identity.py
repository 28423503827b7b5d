"""What all scopes share: fingerprints, the check of a threshold, verbatim prompts and blocks."""

import hashlib
import json
from typing import Any

from memedit.errors import InputError
from memedit.scope.text import folded_text
from memedit.types import Edit


def scope_fingerprint(name: str, encoder_fingerprint: str, **parameters: Any) -> str:
    """Return a SHA-256 over everything the scores of a scope depend on."""
    described = json.dumps({"scope": name, "encoder": encoder_fingerprint, **parameters}, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def check_threshold(threshold: float | None, default: float) -> float:
    """Return ``threshold``, or ``default`` for None.

    Raises:
        InputError: it lies outside [0, 1] or is NaN.
    """
    value = default if threshold is None else float(threshold)
    if not 0.0 <= value <= 1.0:
        raise InputError(f"scope threshold is {value}; scores lie in [0, 1], so give a value from that range")
    return value


def is_verbatim(asked: str, edit: Edit) -> bool:
    """Say whether ``asked`` (normalised) is the edit's prompt or a paraphrase, but for case and punctuation."""
    return any(asked == folded_text(text) for text in (edit.prompt, *edit.paraphrases))


def is_blocked(text: str, edit: Edit) -> bool:
    """Say whether a text is, but for case and punctuation, one of those that must not fire the edit."""
    return bool(edit.blocks) and folded_text(text) in map(folded_text, edit.blocks)
