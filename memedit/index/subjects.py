"""Which known subjects stand in a text: exact look-up of word n-grams, whatever the number of subjects."""

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from memedit.errors import InputError
from memedit.index.function_words import ARTICLES, FUNCTION_WORDS
from memedit.index.words import Word, folded_words, is_character_word, is_hangul, words

_MAX_GAP = 3
"""Words further apart than this many characters are not one name ("J. R. R. Tolkien" is; two sentences are not)."""
_PARENTHESIS = re.compile(r"\s*\([^()]*\)\s*$")
_MAX_WORDS = 64
_MAX_NAME = 400
"""Characters up to which a text may be the name of a subject."""


@dataclass(frozen=True, slots=True)
class SubjectMatch:
    """Subject ``id`` stands at ``text[start:end]``."""

    id: int
    start: int
    end: int


class SubjectIndex:
    """Subjects by their folded words; finding takes O(len(text)) whatever the number of subjects (about 0.5 kB each).

    Case, diacritics, punctuation and a possessive 's do not matter, nor does an article in front of the subject or a
    parenthesis behind it ("Mercury (planet)" is found in "Mercury's mass"). A name that is also a function word
    ("It", "The Who") is found only where it is written with a capital inside the sentence, or in full. A subject
    without a letter, digit or symbol cannot be found and is not kept. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._ids: dict[str, tuple[int, ...]] = {}
        self._keys: dict[int, tuple[str, ...]] = {}
        self._lengths: dict[str, int] = {}  # first word -> bit n set: some subject starting so has n words
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, id: object) -> bool:
        return id in self._keys

    def add(self, id: int, subject: str) -> None:
        """Add ``subject`` under ``id``, in place of what was there under this id.

        Raises:
            InputError: ``id`` is not an integer or ``subject`` not a string.
        """
        _check(id, subject)
        keys = _keys(subject)
        with self._lock:
            self.remove(id)
            if keys:
                self._keys[id] = tuple(keys)
            for key, (first, count) in keys.items():
                self._ids[key] = (*self._ids.get(key, ()), id)
                self._lengths[first] = self._lengths.get(first, 0) | 1 << count

    def add_many(self, subjects: Iterable[tuple[int, str]]) -> None:
        """Add ``(id, subject)`` pairs; into an empty index several times as quick as one by one.

        Raises:
            InputError: an id is not an integer or a subject not a string.
        """
        if self._keys:
            for id, subject in subjects:
                self.add(id, subject)
            return
        ids: dict[str, dict[int, None]] = {}
        last: dict[int, str] = {}
        for id, subject in subjects:
            _check(id, subject)
            if last.get(id, subject) != subject:  # the later of two holds
                ids[last[id]].pop(id)
            last[id] = subject
            ids.setdefault(subject, {})[id] = None
        with self._lock:
            for subject, mine in ids.items():
                keys = _keys(subject) if mine else {}
                if keys:
                    self._keys.update(dict.fromkeys(mine, tuple(keys)))
                for key, (first, count) in keys.items():
                    self._ids[key] = (*self._ids.get(key, ()), *mine)
                    self._lengths[first] = self._lengths.get(first, 0) | 1 << count

    def remove(self, id: int) -> None:
        """Forget ``id``; nothing happens when it is not there."""
        with self._lock:
            for key in self._keys.pop(id, ()):
                left = tuple(other for other in self._ids[key] if other != id)
                if left:
                    self._ids[key] = left
                else:
                    del self._ids[key]

    def named(self, name: str) -> tuple[int, ...]:
        """Return the ids whose subject is ``name`` and no more, in O(1): how :meth:`find` would know it."""
        if len(name) > _MAX_NAME:
            return ()
        with self._lock:
            return tuple(dict.fromkeys(id for key in _keys(name) for id in self._ids.get(key, ())))

    def find(self, text: str) -> list[SubjectMatch]:
        """Return every place where a subject stands, by position, then id.

        Of nested matches only the longest counts: in "the Duke of Wellington" the city is not meant. Matches that
        overlap without nesting are all returned.
        """
        found = words(text)
        with self._lock:
            spans = [(found[i].start, found[i + n - 1].end, self._ids[key]) for i, n, key in self._hits(text, found)]
        spans.sort(key=lambda span: (span[0], -span[1]))
        matches: list[SubjectMatch] = []
        reach = -1  # furthest end so far: a later start with no later end is nested
        widest = (-1, -1)
        for start, end, ids in spans:
            if end > reach or (start, end) == widest:
                matches.extend(SubjectMatch(id, start, end) for id in ids)
                reach, widest = max(reach, end), (start, end)
        return sorted(set(matches), key=lambda m: (m.start, m.end, m.id))

    def _hits(self, text: str, found: list[Word]) -> list[tuple[int, int, str]]:
        """List (first word, number of words, key) of every n-gram that is a subject."""
        hits = []
        for i, word in enumerate(found):
            lengths = self._lengths.get(word.folded, 0)
            reach = _reach(text, found, i, lengths.bit_length() - 1)
            for n in range(1, reach + 1):
                if not lengths >> n & 1:
                    continue
                key = " ".join(w.folded for w in found[i : i + n])
                if key in self._ids and _is_name_here(text, found, i, n):
                    hits.append((i, n, key))
        return hits


def _check(id: object, subject: object) -> None:
    if not isinstance(id, int) or not isinstance(subject, str):
        raise InputError(f"subject {subject!r:.80} under id {id!r}: give a string under an integer")


def _reach(text: str, found: list[Word], i: int, longest: int) -> int:
    """Count how many words from ``i`` on hang together, up to ``longest``."""
    n = min(1, longest)
    while n < longest and i + n < len(found):
        gap = text[found[i + n - 1].end : found[i + n].start]
        if len(gap) > _MAX_GAP or "\n" in gap:
            break
        n += 1
    return n


def _keys(subject: str) -> dict[str, tuple[str, int]]:
    """Map each way of writing the subject to its first word and number of words."""
    keys: dict[str, tuple[str, int]] = {}
    variants = (subject, _PARENTHESIS.sub("", subject)) if ")" in subject else (subject,)
    for variant in variants:
        folded = folded_words(variant)[:_MAX_WORDS]
        if not folded:
            continue
        keys[" ".join(folded)] = (folded[0], len(folded))
        rest = folded[1:]
        if _stands_without_article(folded[0], rest):
            keys[" ".join(rest)] = (rest[0], len(rest))
    return keys


def _stands_without_article(article: str, rest: list[str]) -> bool:
    """ "Beatles" for "The Beatles", but not "who" for "The Who" nor "star" for "A Star"."""
    if article not in ARTICLES or not rest:
        return False
    return len(rest) > 1 or (article == "the" and rest[0] not in FUNCTION_WORDS)


def _is_name_here(text: str, found: list[Word], i: int, n: int) -> bool:
    """Refuse n-grams that are only by chance those of a subject."""
    start, end = found[i].start, found[i + n - 1].end
    if start > 0 and is_hangul(text[start]) and is_hangul(text[start - 1]):
        return False  # inside a word: Korean particles follow the noun, they do not precede it
    if n > 1:
        return True
    here = text[start:end]
    if is_character_word(here[0]) and not is_hangul(here[0]):
        around = text[start - 1 : start] + text[end : end + 1]
        return not any(is_character_word(char) for char in around)
    if found[i].folded not in FUNCTION_WORDS:
        return True
    if len(here) > 1 and here.isupper() and not text.isupper():
        return True  # "WHO", "IT"
    before = text[:start].rstrip()
    return here[0].isupper() and bool(before) and before[-1] not in '.!?:\n"“«('
