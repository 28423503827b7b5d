"""In-context editing: matched edits enter the prompt as text, the model stays as it is."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from memedit.adapters.base import TARGET_WEIGHT, AdapterBatch, Row, check_target_weight
from memedit.adapters.in_context.layout import (
    LAYOUT_VERSION,
    REPEATS,
    REPEATS_BESIDE_TARGET,
    chat_note,
    completion_prefix,
)
from memedit.errors import InputError
from memedit.models.chat import ChatLayout, chat_layout
from memedit.models.fingerprint import tokenizer_digest
from memedit.models.tokenizers import encode_as_data
from memedit.types import Edit


class InContextAdapter:
    """States the matched edits in the prompt.

    A plain completion gets them as lines in front, which a frozen model copies from; a chat gets them in its system
    message (a new one where there is none; in the last user turn where the template has no system role). All text of
    an edit is tokenised as data: no control token can come of it.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        max_edits: state at most so many edits, the best first.
        target_weight: how much of the next token's probability the edit itself has a say in where its target is
            surely what is asked for, see :mod:`memedit.runtime.target_bias`; 0 leaves decoding to the model alone, as
            in-context editing is published (IKE's prompts without demonstrations, arXiv 2305.12740).

    Raises:
        InputError: an option is out of its range.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_edits: int = 8, target_weight: float = TARGET_WEIGHT) -> None:
        if max_edits < 1:
            raise InputError(f"max_edits={max_edits} is below 1")
        self._target_weight = check_target_weight(target_weight)
        self._lines = REPEATS_BESIDE_TARGET if target_weight else REPEATS
        self._tokenizer = tokenizer
        self._max_edits = max_edits
        self._layout = chat_layout(tokenizer)
        text = f"{LAYOUT_VERSION}|{max_edits}|{target_weight}|{tokenizer_digest(tokenizer)}"
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """Registered name."""
        return "in_context"

    @property
    def fingerprint(self) -> str:
        """Hash of prompt layout, the target's weight and tokenizer."""
        return self._fingerprint

    @property
    def target_weight(self) -> float:
        """Weight of the edit's own next token in decoding."""
        return self._target_weight

    def prepare(self, edits: Sequence[Edit]) -> Mapping[str, bytes]:
        """Return nothing: an edit's text is all that is needed."""
        return {}

    def rewrite(self, row: Row, edits: Sequence[Edit], artefacts: Mapping[str, bytes]) -> Row:
        """Return the row with the edits stated in its prompt; the row's own ids stay as they are, in order."""
        chosen = edits[: self._max_edits]
        if self._layout is not None and (turn := self._layout.last_user_span(row.ids)) is not None:
            return replace(row, ids=self._into_chat(self._layout, row.ids, turn[0], chosen))
        prefix = encode_as_data(self._tokenizer, completion_prefix(chosen, lines=self._lines))
        start = leading_bos(self._tokenizer, row.ids)
        return replace(row, ids=(*row.ids[:start], *prefix, *row.ids[start:]))

    def _into_chat(self, layout: ChatLayout, ids: tuple[int, ...], user: int, edits: Sequence[Edit]) -> tuple[int, ...]:
        place = layout.system_place(ids)
        if place is None:
            note = encode_as_data(self._tokenizer, chat_note(edits) + "\n\n")
            return (*ids[:user], *note, *ids[user:])
        text = chat_note(edits)
        note = encode_as_data(self._tokenizer, text if place.before else "\n\n" + text)
        return (*ids[: place.index], *place.before, *note, *place.after, *ids[place.index :])

    def active(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return an empty context: the text alone does it."""
        return nullcontext()

    def decoding(self, batch: AdapterBatch, artefacts: Mapping[str, bytes]) -> AbstractContextManager[None]:
        """Return an empty context: the text has been read."""
        return nullcontext()

    def model(self) -> Any | None:
        """Return None: the base itself answers."""
        return None


def leading_bos(tokenizer: Any, ids: Sequence[int]) -> int:
    """Return 1 when the prompt begins with the beginning-of-text token, which stays in front, else 0."""
    return int(bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id)
