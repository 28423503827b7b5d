"""How edits are worded in a prompt.

A frozen language model copies best what it has just seen in the very form it is about to write: ``prompt target`` as
a line of its own, followed by the query. Repeating the line strengthens the copying (induction) against what the model
believes; docs/methods.md gives the measured effect.
"""

from collections.abc import Sequence

from memedit.types import Edit, EditKind

LAYOUT_VERSION = 1
"""Raised whenever the wording changes."""

REPEATS = 3
"""How often a completion's prefix states one edit."""

_SHORT = 200
"""Characters up to which a statement is repeated; long text is stated once."""


def statement(edit: Edit) -> str:
    """Return the edit as one piece of text: prompt, one space, target."""
    prompt, target = edit.prompt.rstrip(), edit.target.strip()
    return f"{prompt} {target}"


def completion_prefix(edits: Sequence[Edit]) -> str:
    """Return what precedes a plain completion: every statement on its own line, the best edit last.

    The order is repeated as a whole, so that the line before the query is the best edit's.
    """
    lines = [statement(edit) for edit in reversed(edits)]
    short = [line for edit, line in zip(reversed(edits), lines, strict=True) if _repeated(edit, line)]
    return "".join(f"{line}\n" for line in [*short * (REPEATS - 1), *lines])


def _repeated(edit: Edit, line: str) -> bool:
    return edit.kind is not EditKind.LONG_FORM and len(line) <= _SHORT


def chat_note(edits: Sequence[Edit]) -> str:
    """Return what joins a chat's system message."""
    lines = "\n".join(f"- {statement(edit)}" for edit in edits)
    return f"Answer according to these facts, which are up to date:\n{lines}"
