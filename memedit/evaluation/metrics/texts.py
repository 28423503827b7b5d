"""Measures of generated text."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from memedit.errors import InputError

_WORD = re.compile(r"\w+", re.UNICODE)


def words(text: str) -> list[str]:
    """Return the case-folded words of a text (runs of letters, digits and underscores)."""
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, slots=True)
class RougeL:
    """ROUGE-L (Lin 2004) in [0, 1]."""

    precision: float
    recall: float
    f1: float


def rouge_l(candidate: str, reference: str) -> RougeL:
    """Compare two texts by the longest common subsequence of their words; F1 is the balanced one (beta 1).

    A text without words scores zero.
    """
    a, b = words(candidate), words(reference)
    if not a or not b:
        return RougeL(0.0, 0.0, 0.0)
    common = _lcs_length(a, b)
    precision, recall = common / len(a), common / len(b)
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return RougeL(precision, recall, f1)


def _lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, bit-parallel over ``a`` (Hyyrö 2004)."""
    masks: dict[str, int] = {}
    for i, word in enumerate(a):
        masks[word] = masks.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & masks.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(a) - row.bit_count()


def ngram_entropy(text: str) -> float:
    """Return the fluency of ROME (arXiv 2202.05262, "GE"): weighted entropy of word bigrams and trigrams, in bits.

    The weights are ROME's, 2/3 and 4/3 averaged over the two: ``(2/3 H2 + 4/3 H3) / 2``. Repetition drives it down.
    A text of fewer than two words has entropy 0.
    """
    found = words(text)
    return (2 / 3 * _entropy(found, 2) + 4 / 3 * _entropy(found, 3)) / 2


def _entropy(found: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(found[i:] for i in range(n)), strict=False))
    total = sum(counts.values())
    return -sum(c / total * math.log2(c / total) for c in counts.values()) if total else 0.0


def tfidf_similarities(pairs: Sequence[tuple[str, str]], documents: Sequence[str]) -> list[float]:
    """Return the cosine in [0, 1] of each pair's word vectors by smoothed tf-idf; 0 where one text has no words.

    Document frequencies are counted on ``documents`` alone; a word of a pair that occurs in none of them weighs like
    the rarest (``idf = ln((1 + N) / (1 + 0)) + 1``).

    Raises:
        InputError: there are no documents.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not documents:
        raise InputError("tf-idf needs at least one document")
    texts = [*documents, *(text for pair in pairs for text in pair)]
    known = sorted({word for text in texts for word in words(text)})
    if not known:
        return [0.0] * len(pairs)
    vectorizer = TfidfVectorizer(analyzer=words, vocabulary=known).fit(documents)
    first, second = (vectorizer.transform([pair[side] for pair in pairs]) for side in (0, 1))
    return [float(cosine) for cosine in first.multiply(second).sum(axis=1).A1]
