"""A sentence encoder of hashed character trigrams: fast, deterministic, needs no torch."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from memedit.encoders.base import Progress
from memedit.types import Encoding, FloatArray


class HashingEncoder:
    """Each word is a sum of random unit vectors of its trigrams; a text is the unit sum of its words."""

    def __init__(self, dimension: int = 32, salt: str = "") -> None:
        self.name = f"hashing{dimension}{salt}"
        self.dimension = dimension
        self.fingerprint = f"hashing-{dimension}-{salt}"
        self.encoded = 0
        self._word = lru_cache(maxsize=50_000)(self._word_vector)

    def _word_vector(self, word: str) -> FloatArray:
        padded = f"<{word}>"
        total = np.zeros(self.dimension, dtype=np.float32)
        for i in range(len(padded) - 2):
            seed = hashlib.blake2b(f"{self.fingerprint}{padded[i : i + 3]}".encode(), digest_size=8).digest()
            total += np.random.default_rng(int.from_bytes(seed, "big")).standard_normal(self.dimension)
        return total.astype(np.float32)

    def _one(self, text: str) -> Encoding:
        found = [(m.group(), m.span()) for m in re.finditer(r"\w+|\S", text)] or [("", (0, 0))]
        tokens = np.stack([self._word(word.lower()) for word, _ in found])
        vector = tokens.sum(0)
        vector = vector / max(float(np.linalg.norm(vector)), 1e-6)
        return Encoding(text, vector.astype(np.float32), tokens, tuple(span for _, span in found))

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None) -> FloatArray:
        self.encoded += len(texts)
        if progress is not None:
            progress(len(texts), len(texts))
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return np.stack([self._one(text).vector for text in texts])

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Encoding]:
        return [self._one(text) for text in texts]
