"""What a prompt or chat asks: the last user turn, read with the turns before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memedit.adapters.base import Row
from memedit.adapters.in_context.adapter import leading_bos
from memedit.models.chat import ChatLayout
from memedit.models.tokenizers import encode_as_data
from memedit.runtime.rows import content_text
from memedit.scope.talk import TURN
from memedit.types import ChainPolicy

_TURNS = 12
"""Turns before the last that are looked at, and the first: it may be a system prompt that names what all is about."""
_CHARS = 2_000
"""Of a long earlier turn its first and last characters are looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The text to be looked up, and the earlier turns of its talk, oldest first.

    ``chains`` is the policy of look-up along chains of edits, None for that of whoever looks it up.
    """

    text: str
    earlier: tuple[str, ...] = ()
    chains: ChainPolicy | None = None

    @property
    def talk(self) -> str:
        """The turns as one text, as scopes that read talks know it."""
        return TURN.join([*self.earlier, self.text])


def asked_of(prompt: str | Sequence[Mapping[str, Any]]) -> Asked:
    """Return what a text or chat asks; a chat's is its last user turn."""
    if isinstance(prompt, str):
        return Asked(prompt)
    last = max((i for i, message in enumerate(prompt) if message["role"] == "user"), default=len(prompt) - 1)
    texts = [_short(content_text(message)) for message in prompt[:last]]
    kept = texts if len(texts) <= _TURNS + 1 else [texts[0], *texts[-_TURNS:]]
    return Asked(content_text(prompt[last]), tuple(text for text in kept if text.strip()))


def asked_row(row: Row, chains: ChainPolicy | None = None) -> Asked:
    """Return what a row on its way into the model asks; ``chains`` as for :class:`Asked`."""
    return replace(Asked(row.text) if row.messages is None else asked_of(row.messages), chains=chains)


def reworded(tokenizer: Any, layout: ChatLayout | None, row: Row, text: str) -> Row:
    """Return a row with another text in the place of its own: that of its last user turn, else of the whole prompt.

    No control token can come of it. A prompt in which both are mixed (a chat's markers in a text) stays as it is.
    """
    span = None if layout is None else layout.last_user_span(row.ids)
    if span is None:
        start, end = leading_bos(tokenizer, row.ids), len(row.ids)
    else:
        start, end = span
        said = tokenizer.decode(list(row.ids[start:end]), skip_special_tokens=True)
        if said.strip() != row.text.strip():
            return row
    return replace(row, ids=(*row.ids[:start], *encode_as_data(tokenizer, text), *row.ids[end:]), text=text)


def _short(text: str) -> str:
    cut = text if len(text) <= _CHARS else f"{text[: _CHARS // 2]} {text[-_CHARS // 2 :]}"
    return cut.replace(TURN, " ")
