"""How edit and query stand in the counterfactual model's input, in training and at inference alike."""

from typing import Any

from memedit.adapters.base import Row
from memedit.models.tokenizers import encode_as_data
from memedit.types import Edit

LAYOUT_VERSION = 1


def edit_ids(tokenizer: Any, prompt: str, target: str) -> tuple[int, ...]:
    """Return the edit's line: what starts a text, then ``prompt => target`` and a line break, all as data."""
    line = encode_as_data(tokenizer, f"{prompt} => {target}\n")
    return (*opening_ids(tokenizer), *line)


def opening_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that the tokenizer puts before every text (often none)."""
    closing = 1 if tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id] else 0
    empty = [int(i) for i in tokenizer("")["input_ids"]]
    return tuple(empty[: len(empty) - closing])


def counterfactual_row(tokenizer: Any, row: Row, edit: Edit) -> Row:
    """Return the row that the counterfactual model answers: the edit's line, then the query.

    A plain completion stays as it is. Of a chat the last user turn stands on a line of its own, and the answer begins
    the next.
    """
    opening, line = opening_ids(tokenizer), edit_ids(tokenizer, edit.prompt, edit.target)
    if row.messages is None:
        query = row.ids[len(opening) :] if row.ids[: len(opening)] == opening else row.ids
    else:
        query = tuple(encode_as_data(tokenizer, f"{last_user_turn(row)}\n"))
    return Row(ids=(*line, *query), text=row.text, messages=row.messages)


def last_user_turn(row: Row) -> str:
    """Return the text of a chat's last user turn (all text parts joined), or the row's text without one."""
    for message in reversed(row.messages or ()):
        if message.get("role") == "user":
            content = message.get("content", "")
            if isinstance(content, str):
                return content
            return " ".join(str(part["text"]) for part in content if part.get("type") == "text")
    return row.text
