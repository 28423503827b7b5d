"""Putting a question to a model the way it expects one."""

from typing import Any

from memedit.errors import InputError
from memedit.runtime import EditableModel


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
