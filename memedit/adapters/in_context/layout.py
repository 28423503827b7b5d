"""How edits are worded in a prompt.

A frozen language model copies best what it has just seen in the very form it is about to write: ``prompt target`` as
a line of its own, followed by the query. Repeating the line strengthens the copying against what the model believes.
On CounterFact's edit prompts SmolLM2-135M-Instruct gives the edited answer (free-running, greedy, 102 to 204 rows) in
73% of cases after 1 line, 84% after 2, 92% after 3, 95% after 5, 98.5% after 8. In its chat template (40 rows, answer
within 20 tokens) facts stated once hold in 43%, stated three times with the instruction below in 93%.
"""

from collections.abc import Sequence

from memedit.types import Edit, EditKind

LAYOUT_VERSION = 2
"""Raised whenever the wording changes."""

REPEATS = 8
"""How often a completion's prefix states a single edit; several share these lines, at least two each."""

REPEATS_BESIDE_TARGET = 2
"""The same where the edit's target has a say in decoding. On 100 held-out zsRE rows 100 prompts and 97
rewordings were answered rightly; with 8 lines 100 and 98, in 5.4 times the time."""

CHAT_REPEATS = 3
"""The same for a chat's system message."""

_SHORT = 200
"""Characters up to which a statement is repeated; long text is stated once."""


def statement(edit: Edit) -> str:
    """Return the edit as one piece of text: prompt, one space, target. A statement is its prompt."""
    if edit.kind is EditKind.STATEMENT:
        return edit.prompt.strip()
    prompt, target = edit.prompt.rstrip(), edit.target.strip()
    return f"{prompt} {target}"


def completion_prefix(edits: Sequence[Edit], *, lines: int = REPEATS) -> str:
    """Return what precedes a plain completion: every statement on its own line, the best edit last, ``lines`` in all.

    The order is repeated as a whole, so that the line before the query is the best edit's.
    """
    ordered = list(reversed(edits))
    return "".join(f"{line}\n" for line in [*_emphasis(ordered, lines), *map(statement, ordered)])


def chat_note(edits: Sequence[Edit]) -> str:
    """Return what joins a chat's system message: the facts as a list, the best edit first, and what to do with them."""
    lines = [*map(statement, edits), *_emphasis(edits, CHAT_REPEATS)]
    return "\n".join(["Facts:", *(f"- {line}" for line in lines), "Use these facts in your answer, word for word."])


def _emphasis(edits: Sequence[Edit], lines: int) -> list[str]:
    """Return the statements that are made again, short ones only, so that there are about ``lines`` in all."""
    again = max(2, lines // max(len(edits), 1)) - 1
    return [statement(edit) for edit in edits if _is_short(edit)] * again


def _is_short(edit: Edit) -> bool:
    return edit.kind is not EditKind.LONG_FORM and len(edit.prompt) + len(edit.target) <= _SHORT
