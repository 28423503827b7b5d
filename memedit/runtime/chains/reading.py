"""How well edits and chains of them fit a text: the scope's logit, and the cosine of both with the subject masked."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from memedit.index import SubjectIndex
from memedit.runtime.chains.composing import composed
from memedit.runtime.chains.linking import Chain
from memedit.scope.judge.places import masked
from memedit.types import Edit, FloatArray

COSINE = 20.0
"""Weight of the cosine between question and composed text, subject masked in both, beside the scope's logit. On the
development half of fact consolidation, look-up alone, weights from 10 to 30 differ by 5 of 153."""


def fit(score: float, cosine: float) -> float:
    """Return how well a text fits a question."""
    kept = min(max(score, 1e-6), 0.9999)
    return math.log(kept / (1.0 - kept)) + COSINE * cosine


def cosines(encoder: Any, pairs: Sequence[tuple[str, Chain]]) -> list[float]:
    """Return the cosine of each text and chain, with the chain's first subject masked in both."""
    asked = [masked(text, chain[0].subject) for text, chain in pairs]
    told = [masked(composed(chain), chain[0].subject) for _, chain in pairs]
    texts = list(dict.fromkeys([*asked, *told]))
    vectors: dict[str, FloatArray] = dict(zip(texts, encoder.encode(texts), strict=True))
    return [float(np.dot(vectors[a], vectors[b])) for a, b in zip(asked, told, strict=True)]


def first_places(text: str, edits: Sequence[Edit]) -> dict[str, tuple[int, int]]:
    """Return by id of edit where its subject stands first in a text; of nested subjects only the longest stands."""
    finder = SubjectIndex()
    finder.add_many((number, edit.subject or "") for number, edit in enumerate(edits))
    found: dict[str, tuple[int, int]] = {}
    for match in finder.find(text):
        found.setdefault(edits[match.id].id, (match.start, match.end))
    return found
