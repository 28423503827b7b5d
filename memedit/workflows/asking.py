"""Putting a question to a model the way it expects one."""

from typing import Any

from memedit.errors import InputError
from memedit.models import encode_as_data
from memedit.runtime import EditableModel
from memedit.types import Route

_OVER = 8
"""Tokens beside a target's own: its end, and what comes before it."""


def as_prompt(model: EditableModel, question: str, *, raw: bool = False) -> Any:
    """Return ``question`` as a chat turn for models with a chat template, else as the text to continue.

    Args:
        model: decides by its tokenizer.
        question: the text.
        raw: never make a chat turn of it.

    Raises:
        InputError: the question is empty.
    """
    if not question.strip():
        raise InputError(f"the question {question!r} is empty; ask something")
    if raw or getattr(model.tokenizer, "chat_template", None) is None:
        return question
    return [{"role": "user", "content": question}]


def room_for(model: EditableModel, route: Route, *, least: int) -> int:
    """Return how many tokens an answer may have: ``least``, or what the longest target that fires on it takes."""
    targets = [encode_as_data(model.tokenizer, hit.edit.target) for hit in route.fired]
    return max([least, *(len(ids) + _OVER for ids in targets)])
