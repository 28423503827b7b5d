"""Overlapping windows of a long text, and its sentences, so that every part of it can be looked up."""

import re
import unicodedata

from memedit.errors import InputError

_PIECE = re.compile(r"\s*(?:[^\W_]+|[\W_])", re.UNICODE)
_ASCII_CHARS_PER_TOKEN = 4
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\s*\n\s*")
_FRAGMENT = 3


def split_long(text: str, *, max_tokens: int = 128, overlap: int = 32, max_parts: int | None = None) -> list[str]:
    """Split ``text`` into windows of at most about ``max_tokens`` tokens, each sharing ``overlap`` with the next.

    Tokens are estimated without a tokenizer (a word of ASCII letters: one per 4 characters begun; any other character:
    one each), which over-counts for WordPiece and BPE vocabularies of the text's own language. A text that fits comes
    back whole; windows are cut between words, inside one only if it alone is too long.

    Args:
        max_parts: keep at most this many windows, from both ends: a question stands at the start or the end of its
            prompt. None keeps all.

    Raises:
        InputError: ``overlap`` is not in ``0..max_tokens-1``, or ``max_parts`` < 1.
    """
    if max_tokens < 1 or not 0 <= overlap < max_tokens:
        raise InputError(f"overlap={overlap} must lie in 0..max_tokens-1 with max_tokens={max_tokens} at least 1")
    if max_parts is not None and max_parts < 1:
        raise InputError(f"max_parts={max_parts} is below 1")
    pieces = _pieces(text, max_tokens)
    if sum(cost for _, _, cost in pieces) <= max_tokens:
        return [text]
    parts = [text[begin:end].strip() for begin, end in _windows(pieces, max_tokens, overlap)]
    parts = [part for part in parts if part]
    if max_parts is not None and len(parts) > max_parts:
        head = max_parts // 2
        parts = parts[:head] + parts[len(parts) - (max_parts - head) :]
    return parts or [text]


def split_sentences(text: str, *, max_tokens: int = 128, overlap: int = 32) -> list[str]:
    """Split ``text`` behind full stops, question and exclamation marks and at line breaks, in order.

    A fragment of fewer than about three tokens ("Dr.") stays with what stands before it. Sentences of more than
    ``max_tokens`` are cut into windows as :func:`split_long` does, whose estimate of tokens is used.

    Raises:
        InputError: ``overlap`` is not in ``0..max_tokens-1``.
    """
    sentences: list[str] = []
    for piece in _SENTENCE_END.split(text):
        if sentences and sum(cost for _, _, cost in _pieces(piece, max_tokens)) < _FRAGMENT:
            sentences[-1] = f"{sentences[-1]} {piece}".strip()
        elif piece.strip():
            sentences.append(piece.strip())
    return [part for one in sentences for part in split_long(one, max_tokens=max_tokens, overlap=overlap)]


def _pieces(text: str, max_tokens: int) -> list[tuple[int, int, int]]:
    """Cut into (start, end, estimated tokens); words longer than a window are cut too."""
    pieces: list[tuple[int, int, int]] = []
    for match in _PIECE.finditer(text):
        word = match.group().strip()
        if word.isascii():
            step = max_tokens * _ASCII_CHARS_PER_TOKEN
            per = _ASCII_CHARS_PER_TOKEN
        else:
            step, per = max_tokens, 1
        start = match.end() - len(word)
        for at in range(start, match.end(), step) if word else ():
            end = min(at + step, match.end())
            marks = 0 if per > 1 else sum(1 for c in text[at:end] if unicodedata.combining(c))
            pieces.append((at, end, max(1, -(-(end - at - marks) // per))))
    return pieces


def _windows(pieces: list[tuple[int, int, int]], max_tokens: int, overlap: int) -> list[tuple[int, int]]:
    """Group pieces into (start, end) windows; each starts at most ``overlap`` tokens before the last one's end."""
    windows: list[tuple[int, int]] = []
    first = 0
    while first < len(pieces):
        last, used = first, 0
        while last < len(pieces) and used + pieces[last][2] <= max_tokens:
            used += pieces[last][2]
            last += 1
        last = max(last, first + 1)
        windows.append((pieces[first][0], pieces[last - 1][1]))
        if last == len(pieces):
            break
        back, shared = last, 0
        while back - 1 > first and shared + pieces[back - 1][2] <= overlap:
            back -= 1
            shared += pieces[back][2]
        first = back
    return windows
