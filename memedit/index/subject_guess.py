"""Guess a subject from capitals and quotes alone, where no tagger fits the encoder."""

import re

from memedit.index.function_words import FUNCTION_WORDS
from memedit.index.words import words

_MAX_TEXT = 4000
_INSIDE = frozenset({"of", "the", "de", "la", "le", "van", "von", "der", "den", "and", "y", "&", "-"})
_QUOTED = re.compile(r"\"([^\"]{2,300})\"|“([^”]{2,300})”|«\s*([^»]{2,300}?)\s*»|「([^」]{1,200})」|『([^』]{1,200})』")


def guess_subject(text: str, target: str | None = None) -> str | None:
    """Return the longest quoted part of ``text``, else its longest run of capitalised words, else None.

    A run that says no more than ``target`` is taken only when there is no other. In a text all in capitals they say
    nothing.
    """
    text = text[:_MAX_TEXT]
    quoted = [part for match in _QUOTED.finditer(text) for part in match.groups() if part and words(part)]
    if quoted:
        return max(quoted, key=len)
    if text.isupper() and len(words(text)) > 1:
        return None
    runs: list[tuple[int, int, int]] = []  # capitalised words, start, end
    for word in words(text):
        capital = text[word.start].isupper() or (text[word.start].isdigit() and bool(runs))
        if not capital or (word.folded in FUNCTION_WORDS and not text[: word.start].strip(" ¿\"'")):
            continue
        between = text[runs[-1][2] : word.start].split() if runs else ["."]
        if runs and all(part in _INSIDE for part in between):
            runs[-1] = (runs[-1][0] + 1, runs[-1][1], word.end)
        else:
            runs.append((1, word.start, word.end))
    answer = {word.folded for word in words(target or "")}
    named = [(n, s, e) for n, s, e in runs if any(c.isalpha() for c in text[s:e]) and text[s:e] != "I"]
    other = [run for run in named if not {word.folded for word in words(text[run[1] : run[2]])} <= answer] or named
    best = max(other, key=lambda run: (run[0], run[2] - run[1]), default=None)
    return text[best[1] : best[2]] if best else None
