"""Putting a question to a model the way it expects one."""

from typing import Any

from memedit.errors import InputError
from memedit.models import encode_as_data
from memedit.runtime import EditableModel
from memedit.runtime.rows import prompt_row
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


def sure_answer(model: EditableModel, prompt: Any, route: Route) -> str | None:
    """Return the greedy answer to a prompt without making it, where it is the fired edit's target for sure.

    That is where the target has over one half of each next token's probability: nothing can be likelier. Else None.
    """
    row = prompt_row(model.tokenizer, prompt)
    own = model.generator.target_prior(row, route.fired) if route.decision.asked is None else None
    if own is None or own.weight <= 0.5:
        return None
    return str(model.tokenizer.decode(list(own.ids), skip_special_tokens=True))


def room_for(model: EditableModel, route: Route, *, least: int) -> int:
    """Return how many tokens an answer may have: ``least``, or what the longest target that fires on it takes."""
    targets = [encode_as_data(model.tokenizer, hit.edit.target) for hit in route.fired]
    return max([least, *(len(ids) + _OVER for ids in targets)])
