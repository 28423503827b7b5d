"""Where sentences end in the tokens of an answer."""

from collections.abc import Sequence
from typing import Any

_WITHOUT_BLANKS = "。！？"
_ENDS = (".", "!", "?", *_WITHOUT_BLANKS)
_CLOSING = "\"'”’)]*」』"
_MAY_END = {*_CLOSING, *_ENDS, "\N{REPLACEMENT CHARACTER}"}
"""Last characters of tokens behind which a sentence may end; the last is a part of a character."""


class Pieces:
    """Cuts an answer that is being written into pieces to be looked up; each is a sentence, or its beginning.

    ``start`` and ``checked`` count tokens: where the current sentence begins, and what has been looked up.

    Args:
        tokenizer: the model's.
        every: a piece ends after so many tokens at the latest; None: with its sentence.
        start: where the first sentence begins.
    """

    def __init__(self, tokenizer: Any, every: int | None, start: int = 0) -> None:
        self._tokenizer, self._every = tokenizer, every
        self.start = self.checked = start

    def due(self, ids: Sequence[int], *, ended: bool) -> int | None:
        """Return up to where the next piece goes, None while it is under way.

        Args:
            ids: the answer's tokens so far, without an end token.
            ended: nothing follows.
        """
        for end in range(self.checked + 1, len(ids) + 1):
            if self.closes(ids, end) or (self._every is not None and end - self.checked >= self._every):
                return end
        return len(ids) if ended and len(ids) > self.checked else None

    def pass_by(self, ids: Sequence[int], end: int) -> None:
        """Take a piece down as looked up."""
        self.checked = end
        if self.closes(ids, end):
            self.start = end

    def text(self, ids: Sequence[int], end: int) -> str:
        """Return the sentence up to ``end``."""
        return self._decode(ids[self.start : end]).strip()

    def closes(self, ids: Sequence[int], end: int) -> bool:
        """Say whether a sentence ends behind ``end`` tokens; what follows has to have begun."""
        last = self._decode(ids[end - 1 : end])
        if "\n" in last:
            return bool(self.text(ids, end))
        if not last or last[-1] not in _MAY_END:
            return False
        before = self._decode(ids[self.start : end])
        bare = before.rstrip(_CLOSING)
        if end >= len(ids) or not bare.endswith(_ENDS):
            return False
        following = self._decode(ids[self.start : end + 1])[len(before) :]
        return following[:1].isspace() or (bare[-1] in _WITHOUT_BLANKS and following[:1] not in _CLOSING)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
