"""How edits are worded in a prompt.

A frozen language model copies best what it has just seen in the very form it is about to write: ``prompt target`` as
a line of its own, followed by the query. Repeating the line strengthens the copying (induction) against what the model
believes; docs/methods.md gives the measured effect.
"""

from collections.abc import Sequence

from memedit.types import Edit, EditKind

LAYOUT_VERSION = 1
"""Raised whenever the wording changes."""

REPEATS = 8
"""How often a completion's prefix states a single edit; several share these lines, at least two each."""

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
    ordered = list(reversed(edits))
    repeats = max(2, REPEATS // max(len(ordered), 1))
    short = [statement(edit) for edit in ordered if _repeated(edit)]
    return "".join(f"{line}\n" for line in [*short * (repeats - 1), *map(statement, ordered)])


def _repeated(edit: Edit) -> bool:
    return edit.kind is not EditKind.LONG_FORM and len(edit.prompt) + len(edit.target) <= _SHORT


def chat_note(edits: Sequence[Edit]) -> str:
    """Return what joins a chat's system message."""
    lines = "\n".join(f"- {statement(edit)}" for edit in edits)
    return f"Answer according to these facts, which are up to date:\n{lines}"
