"""Inner questions: the parts of a question that ask for what the rest of it is about.

"What is the official language of *the country that Jayma Mays is a citizen of*?" The part stands for a name, and with
that name in its place the rest is a question of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from memedit.index.function_words import FUNCTION_WORDS
from memedit.index.words import Word, words
from memedit.scope.text import is_name

Span = tuple[int, int]
_SENTENCE_END = re.compile(r"[.!?:][\"”']?\s|\n")
_OPENING = frozenset({"the", "a", "an", "our", "my", "your", "his", "her", "its", "their"})
_ENDING = frozenset({
    "is", "are", "was", "were", "be", "been", "has", "have", "had", "does", "do", "did", "can", "could", "will",
    "would", "should", "located", "situated", "headquartered", "born", "founded", "die", "died", "work", "works",
    "worked", "live", "lives", "lived", "come", "comes", "study", "studied",
})  # fmt: skip
"""Words before which an inner question may end: "Where was | the founder of Arn Works | born?"."""
_LIGHT = FUNCTION_WORDS | {
    "name", "names", "named", "called", "tell", "know", "give", "please", "say", "identity", "title", "kind", "type",
    "located", "situated", "based", "found", "created", "made",
}  # fmt: skip
"""Words that ask for nothing by themselves."""
_DANGLING = frozenset({"is", "are", "was", "were", "which", "that", "who", "where"})
_NAME_GOES_ON = re.compile(r",\s+[A-Z]")
"""What stands behind "Pugwash" in "Pugwash, Nova Scotia"."""
_POSSESSIVE = ("'s", "’s", "s'", "s’")
_MAX_PARTS = 8
_BESIDE = 3
"""Words behind a possessive that may name what is owned: "Mel Daniels' favourite sport"."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text that may be an inner question; ``text[start:end]`` is it."""

    text: str
    start: int
    end: int

    @property
    def asked(self) -> str:
        """The part alone."""
        return self.text[self.start : self.end]

    def answered(self, value: str) -> str:
        """Return the text with a value in the part's place."""
        return f"{self.text[: self.start]}{value}{self.text[self.end :]}"


def inner_parts(text: str, subject: Span) -> list[Part]:
    """Return the parts of a question that hold a subject and something asked of it, the longest first.

    What is left beside a part asks for something too: words that are neither grammar nor "the name of".

    Args:
        text: a question, or a beginning to be continued.
        subject: where the subject stands in it.
    """
    found = _sentence(text, words(text), subject)
    outer = [word for word in found if word.end <= subject[0] or word.start >= subject[1]]
    least = 2 if is_name(text[subject[0] : subject[1]]) else 1
    if sum(word.folded not in _LIGHT for word in outer) < least:
        return []
    spans = {(start, end) for start in _starts(text, found, subject) for end in _ends(text, found, subject)}
    parts = [Part(text, start, end) for start, end in sorted(spans, key=lambda span: span[0] - span[1])]
    return [part for part in parts if _asks_twice(part, outer, named=least == 2)][:_MAX_PARTS]


def _sentence(text: str, found: Sequence[Word], subject: Span) -> list[Word]:
    """Return the words of the sentence that a subject stands in."""
    first, last = 0, len(found)
    for number, (word, following) in enumerate(pairwise(found), start=1):
        if _SENTENCE_END.search(text, word.end, following.start):
            if following.start <= subject[0]:
                first = number
            elif word.end >= subject[1]:
                last = min(last, number)
    return list(found[first:last])


def _starts(text: str, found: Sequence[Word], subject: Span) -> list[int]:
    """Return where a part may begin: with an article or, where the subject owns what is asked for, with the subject.

    A name's own article begins none: "when does *the Mill Library open*" asks, it is not what stands for a name.
    """
    opening = [word.start for word in found[1:] if word.start <= subject[0] and word.folded in _OPENING]
    if _owns(text, subject):
        return [*opening, subject[0]] if found[0].start < subject[0] else opening
    if not is_name(text[subject[0] : subject[1]]):
        return opening
    between = [word.start for word in found if word.end <= subject[0]]
    return [start for start in opening if any(start < other for other in between)]


def _ends(text: str, found: Sequence[Word], subject: Span) -> list[int]:
    """Return where a part may end: behind the subject, before a verb, or with the text."""
    behind = [word for word in found if word.start >= subject[1]]
    if not behind:
        return [_closed(text, subject[1])]
    if _NAME_GOES_ON.match(text, subject[1]):
        return []
    while behind and behind[-1].folded in _DANGLING:
        behind = behind[:-1]
    ends = [subject[1], *(word.end for word in behind[-1:])]
    for before, word in zip([None, *behind], behind, strict=False):
        if word.folded in _ENDING:
            ends.append(subject[1] if before is None else before.end)
    if _owns(text, subject):
        ends += [word.end for word in behind[:_BESIDE]]
    return [_closed(text, end) for end in ends]


def _owns(text: str, subject: Span) -> bool:
    return text[subject[1] - 2 : subject[1]] in _POSSESSIVE or text[subject[1] : subject[1] + 1] in ("'", "’")


def _closed(text: str, end: int) -> int:
    return end + (text[end : end + 1] in ('"', "”"))


def _asks_twice(part: Part, outer: Sequence[Word], *, named: bool) -> bool:
    """Say whether something is asked within a part and beside it; a subject that is no name asks by itself."""
    within = [word for word in outer if part.start <= word.start and word.end <= part.end]
    beside = [word for word in outer if word not in within]
    asked = [any(word.folded not in _LIGHT for word in group) for group in (within, beside)]
    return asked[1] and (asked[0] or not named)
