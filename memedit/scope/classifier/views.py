"""Texts as the classifier sees them: words with their rarity, projected token vectors, where the subject stands."""

import functools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memedit.index.words import words
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.types import FloatArray

Span = tuple[int, int]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MAX_TOKENS = 48
"""Token vectors of an edit's text, or of a query's segment, that are looked at."""
MAX_WORDS = 64
LETTER_DIMENSION = 96

# a full stop behind an initial, a title or a short abbreviation ends no sentence
_SENTENCE_END = re.compile(r"(?<!\b[A-Z])(?<!\b[A-Z][a-z])(?<!\b[A-Z][a-z]{2})[.!?]+[\"'”’)\]]*\s+|[。！？]|\n+")


class SubjectAndTarget(Protocol):
    """What is needed of an edit beside its text."""

    @property
    def subject(self) -> str | None:
        """Whom or what it is about."""

    @property
    def target(self) -> str:
        """The new answer."""


@dataclass(frozen=True, slots=True)
class TextView:
    """A text as arrays: ``w`` words and ``t`` tokens.

    ``word_ids [w]`` are hashes of the folded words, ``word_spans [w, 2]`` and ``spans [t, 2]`` character offsets,
    ``rarity [w]`` how telling the words are, ``letters [w, 96]`` their letter pairs, ``tokens [t, p]`` projected token
    vectors, ``token_word [t]`` the word a token belongs to (-1: punctuation).
    """

    text: str
    word_ids: IntArray
    word_spans: IntArray
    rarity: FloatArray
    letters: FloatArray
    tokens: FloatArray
    spans: IntArray
    token_word: IntArray

    @property
    def token_rarity(self) -> FloatArray:
        """Rarity of each token's word ``[t]``, 0 for punctuation."""
        return np.append(self.rarity, np.float32(0.0))[self.token_word]


@dataclass(frozen=True, slots=True)
class EditView:
    """One text of an edit (its prompt or a paraphrase) with its subject and target.

    ``subject_words [w]`` and ``subject_tokens [t]`` mark where the subject stands in the text. ``name_ids [s]``,
    ``name_rarity [s]`` and ``name_letters [s, 96]`` describe the subject itself, ``target_ids`` the target.
    """

    view: TextView
    subject_words: BoolArray
    subject_tokens: BoolArray
    name_ids: IntArray
    name_rarity: FloatArray
    name_letters: FloatArray
    target_ids: IntArray


def text_view(text: str, tokens: FloatArray, spans: IntArray, rarity: WordRarity, *, letters: bool = True) -> TextView:
    """Look at a whole text, given its projected token vectors ``[t, p]`` and their offsets ``[t, 2]``.

    ``letters=False`` leaves the letter pairs at zero: only queries are looked through for misspelt names.
    """
    found = words(text)
    word_spans = np.array([(word.start, word.end) for word in found], np.int64).reshape(-1, 2)
    folded = [word.folded for word in found]
    return TextView(
        text=text,
        word_ids=word_numbers(folded),
        word_spans=word_spans,
        rarity=np.array([rarity(word) for word in folded], np.float32),
        letters=letter_vectors(folded) if letters else np.zeros((len(folded), 0), np.float32),
        tokens=tokens,
        spans=spans,
        token_word=_words_of_tokens(word_spans, spans),
    )


def edit_view(edit: SubjectAndTarget, view: TextView, rarity: WordRarity) -> EditView:
    """Look at one text of ``edit``; of long texts the first ``MAX_TOKENS`` tokens count."""
    view = cut(view, 0, MAX_TOKENS)
    place = find_span(view.text, edit.subject)
    name = [word.folded for word in words(edit.subject or "")][:16]
    return EditView(
        view=view,
        subject_words=inside(view.word_spans, place),
        subject_tokens=inside(view.spans, place),
        name_ids=word_numbers(name),
        name_rarity=np.array([0.05 + rarity(word) for word in name], np.float32),
        name_letters=letter_vectors(name),
        target_ids=word_numbers([word.folded for word in words(edit.target[:200])][:12]),
    )


def cut(view: TextView, begin: int, size: int, *, last: bool = False) -> TextView:
    """Keep ``size`` tokens from character ``begin`` on (the last ones with ``last``) and the words beside them."""
    from_begin = np.flatnonzero(view.spans[:, 0] >= begin)
    kept = from_begin[-size:] if last else from_begin[:size]
    if len(kept) == len(view.spans) and len(view.word_ids) <= MAX_WORDS:
        return view
    low, high = (view.spans[kept[0], 0], view.spans[kept[-1], 1]) if len(kept) else (begin, begin)
    chosen = np.flatnonzero((view.word_spans[:, 1] > low) & (view.word_spans[:, 0] < high))[:MAX_WORDS]
    spans, word_spans = view.spans[kept], view.word_spans[chosen]
    return TextView(
        text=view.text,
        word_ids=view.word_ids[chosen],
        word_spans=word_spans,
        rarity=view.rarity[chosen],
        letters=view.letters[chosen],
        tokens=view.tokens[kept],
        spans=spans,
        token_word=_words_of_tokens(word_spans, spans),
    )


def sentence_start(text: str, before: int) -> int:
    """Return where the sentence that holds character ``before`` begins."""
    start = 0
    for match in _SENTENCE_END.finditer(text, 0, before):
        start = match.end()
    return start


def masked_from(text: str, span: Span, mask: str) -> str:
    """Return ``text`` from the sentence of ``span`` on, with ``mask`` in place of what stands there."""
    return text[sentence_start(text, span[0]) : span[0]] + mask + text[span[1] :]


def find_span(text: str, subject: str | None) -> Span | None:
    """Return where ``subject`` stands in ``text``, comparing folded words; the last place if there are several."""
    name = [word.folded for word in words(subject or "")]
    found = words(text)
    for at in range(len(found) - len(name), -1, -1):
        if name and [word.folded for word in found[at : at + len(name)]] == name:
            return found[at].start, found[at + len(name) - 1].end
    return None


def inside(spans: IntArray, span: Span | None) -> BoolArray:
    """Mark the spans ``[n, 2]`` that touch ``span``."""
    if span is None:
        return np.zeros(len(spans), np.bool_)
    return (spans[:, 0] < span[1]) & (spans[:, 1] > span[0])


@functools.lru_cache(maxsize=1 << 16)
def word_number(word: str) -> int:
    """Return a stable positive number for a folded word."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) + 1


def word_numbers(folded: Sequence[str]) -> IntArray:
    """Return the numbers of words ``[w]``."""
    return np.array([word_number(word) for word in folded], np.int64)


def letter_vectors(folded: Sequence[str]) -> FloatArray:
    """Return hashed letter-pair vectors ``[w, 96]`` of length 1: their product is how alike two words are spelt."""
    if not folded:
        return np.zeros((0, LETTER_DIMENSION), np.float32)
    return np.stack([_letter_vector(word) for word in folded])


@functools.lru_cache(maxsize=1 << 14)
def _letter_vector(word: str) -> FloatArray:
    padded = f"^{word[:40]}$"
    vector = np.zeros(LETTER_DIMENSION, np.float32)
    for i in range(len(padded) - 1):
        vector[zlib.crc32(padded[i : i + 2].encode("utf-8", "surrogatepass")) % LETTER_DIMENSION] = 1.0
    return vector / np.float32(np.sqrt(vector.sum()))


def _words_of_tokens(word_spans: IntArray, spans: IntArray) -> IntArray:
    if not len(word_spans):
        return np.full(len(spans), -1, np.int64)
    at = np.maximum(np.searchsorted(word_spans[:, 0], spans[:, 0], side="right") - 1, 0)
    touches = (spans[:, 0] >= word_spans[at, 0]) & (spans[:, 0] < word_spans[at, 1])
    return np.where(touches, at, -1)
