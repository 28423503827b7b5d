"""Taking out of texts what nobody should keep."""

from collections.abc import Sequence
from dataclasses import replace

import regex

from memedit.errors import InputError
from memedit.memory import LoggedRequest
from memedit.server.keeping.notes import LONGEST

MARK = "[redacted]"
_SECONDS = 0.25
_EARLIER_LONGEST = 2_000


class Redaction:
    """Replaces what patterns match by a mark.

    A pattern that takes long on a text, as careless ones can, takes the whole text with it: what could not be looked
    through is not kept.

    Args:
        patterns: regular expressions; inline flags such as ``(?i)`` may stand in them.

    Raises:
        InputError: one of them is none.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = tuple(_compiled(pattern) for pattern in patterns)

    def row(self, row: LoggedRequest) -> LoggedRequest:
        """Return a row with its texts redacted, and then cut to what is kept of them."""
        return replace(
            row,
            query=self.text(storable(row.query))[:LONGEST],
            earlier=tuple(self.text(storable(text))[:_EARLIER_LONGEST] for text in row.earlier),
            answer=None if row.answer is None else self.text(storable(row.answer))[:LONGEST],
        )

    def text(self, text: str) -> str:
        """Return a text without what the patterns match."""
        for pattern in self._patterns:
            try:
                text = pattern.sub(MARK, text, timeout=_SECONDS, concurrent=True)
            except TimeoutError:
                return MARK
        return text


def storable(text: str) -> str:
    """Return a text with a mark in place of what no database keeps: NUL, and halves of characters."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _compiled(pattern: str) -> "regex.Pattern[str]":
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise InputError(f"the pattern {pattern!r} to redact is no regular expression: {error}") from error
