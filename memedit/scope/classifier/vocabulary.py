"""How telling a word is: inverse document frequency from a shipped table of common words."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from memedit.index.words import words


class WordRarity:
    """Inverse document frequency in [0, 1]: 0 for a word in every document, 1 for one that the table lacks.

    Args:
        counts: folded word to the number of documents that hold it.
        documents: how many documents were counted.
    """

    def __init__(self, counts: Mapping[str, int], documents: int) -> None:
        scale = math.log(documents + 1)
        self._rarity = {word: (scale - math.log(count)) / scale for word, count in counts.items()}

    def __call__(self, word: str) -> float:
        """Return the rarity of a folded word."""
        return self._rarity.get(word, 1.0)


def count_documents(texts: Iterable[str], *, limit: int) -> tuple[dict[str, int], int]:
    """Count in how many texts each folded word stands; keep the ``limit`` most frequent (ties by alphabet)."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        counts.update({word.folded for word in words(text)})
        total += 1
    kept = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return dict(kept), total
