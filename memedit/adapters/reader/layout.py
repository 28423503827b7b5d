"""How edits stand in the prompt that the reader was trained on.

One line an edit, ``prompt => target``, then a blank line, then the query. A plain completion gets them in front, a
chat at the head of its last user turn. The query's own token ids are kept as they are.
"""

from collections.abc import Sequence
from typing import Any

from memedit.adapters.in_context.adapter import leading_bos
from memedit.models.chat import ChatLayout
from memedit.models.tokenizers import encode_as_data

LAYOUT_VERSION = 1
"""Raised whenever the layout changes: weights trained on another one are refused."""


def edit_block(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the lines that state edits, given as (prompt, target), and the blank line that ends them.

    White space is folded to single spaces: an edit's text cannot end its line, nor the block.
    """
    return "".join(f"{' '.join(prompt.split())} => {' '.join(target.split())}\n" for prompt, target in pairs) + "\n"


def insert_edits(
    tokenizer: Any, layout: ChatLayout | None, pairs: Sequence[tuple[str, str]], ids: Sequence[int]
) -> tuple[int, ...]:
    """Return prompt ids with edits, given as (prompt, target), inserted as data: no control token can come of them.

    ``layout`` is :func:`~memedit.models.chat.chat_layout` of the tokenizer; a prompt in which it finds a user turn is
    a chat, any other a plain completion. A leading beginning-of-text token stays in front.
    """
    block = encode_as_data(tokenizer, edit_block(pairs))
    span = layout.last_user_span(ids) if layout is not None else None
    start = leading_bos(tokenizer, ids) if span is None else span[0]
    return (*ids[:start], *block, *ids[start:])
