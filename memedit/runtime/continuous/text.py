"""Tokens to text as they come, up to a stop string."""

from collections.abc import Sequence
from typing import Any

_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TextAssembler:
    """Text of one answer, piece by piece; the pieces joined are the text of all its tokens.

    What may still change is held back: bytes of an unfinished character, and the beginning of what may become a stop
    string. A stop string ends the answer and is not part of it.

    Args:
        tokenizer: the model's.
        stops: stop strings.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._ids: list[int] = []
        self._start = self._read = 0
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Take a token; return the text that is sure by now."""
        self._ids.append(token)
        before, after = self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
        if after.endswith(_BROKEN) or len(after) < len(before):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return self._release(after[len(before) :])

    def end(self) -> str:
        """Return what was held back."""
        if self.stopped:
            return ""
        before, after = self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
        text = self._release(after[len(before) :])
        held, self._held = ("" if self.stopped else self._held), ""
        return text + held

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)) if ids else ""

    def _release(self, text: str) -> str:
        text = self._held + text
        found = [(text.find(stop), stop) for stop in self._stops if stop in text]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[0]]
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` with which ``stop`` begins."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if stop.startswith(text[len(text) - size :])), 0)
