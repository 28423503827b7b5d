"""Encoding the training texts once: projected token vectors in files that a later run finds again."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from memedit.encoders.base import Encoder
from memedit.scope.classifier.views import TextView, text_view
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.types import FloatArray
from memedit.whole_files import write_whole

Progress = Callable[[int, int], None]
_SHARD = 2048


def principal_directions(encoder: Encoder, texts: Sequence[str], width: int, *, seed: int) -> FloatArray:
    """Return the directions ``[d, width]`` along which the token vectors of (a sample of) texts vary most.

    Uncentred: products of projected vectors approximate products of the vectors themselves.
    """
    rng = np.random.default_rng(seed)
    chosen = [texts[i] for i in rng.choice(len(texts), min(len(texts), 6000), replace=False)]
    total = np.zeros((encoder.dimension, encoder.dimension))
    for start in range(0, len(chosen), _SHARD):
        for encoding in encoder.encode_tokens(chosen[start : start + _SHARD]):
            total += encoding.tokens.T.astype(np.float64) @ encoding.tokens
    values, vectors = np.linalg.eigh(total)
    directions = vectors[:, np.argsort(-values)[:width]]
    signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    return (directions * signs).astype(np.float32)  # eigenvectors have no sign of their own


class EncodedTexts:
    """Sentence vectors and projected token vectors of texts, by text."""

    def __init__(self, rarity: WordRarity) -> None:
        self._rarity = rarity
        self._shards: list[dict[str, np.ndarray]] = []
        self._place: dict[str, tuple[int, int]] = {}

    def vector(self, text: str) -> FloatArray:
        """Return the sentence vector ``[d]`` of a text."""
        shard, row = self._place[text]
        vector: FloatArray = self._shards[shard]["vectors"][row].astype(np.float32)
        return vector

    def view(self, text: str, *, letters: bool = True) -> TextView:
        """Return the view of a text."""
        number, row = self._place[text]
        shard = self._shards[number]
        part = slice(shard["start"][row], shard["start"][row + 1])
        tokens, spans = shard["tokens"][part].astype(np.float32), shard["spans"][part].astype(np.int64)
        return text_view(text, tokens, spans, self._rarity, letters=letters)

    def add(
        self,
        encoder: Encoder,
        directions: FloatArray,
        texts: Sequence[str],
        folder: Path,
        progress: Progress | None = None,
    ) -> None:
        """Encode texts that no earlier run has left in ``folder``, and keep them there."""
        home = folder / _key(encoder, directions)
        home.mkdir(parents=True, exist_ok=True)
        for path in sorted(home.glob("*.safetensors")):
            self._take(path)
        missing = sorted({text for text in texts if text not in self._place}, key=lambda text: (len(text), text))
        for start in range(0, len(missing), _SHARD):
            part = missing[start : start + _SHARD]
            path = home / f"{_digest(json.dumps(part))}.safetensors"
            _save(path, _encode(encoder, directions, part))
            self._take(path)
            if progress is not None:
                progress(start + len(part), len(missing))

    def _take(self, path: Path) -> None:
        shard = load_file(path)
        texts: list[str] = json.loads(shard.pop("texts").tobytes())
        self._place |= {text: (len(self._shards), row) for row, text in enumerate(texts)}
        self._shards.append(shard)


def _key(encoder: Encoder, directions: FloatArray) -> str:
    return _digest(encoder.fingerprint + hashlib.sha256(directions.tobytes()).hexdigest())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _encode(encoder: Encoder, directions: FloatArray, texts: Sequence[str]) -> dict[str, np.ndarray]:
    encodings = encoder.encode_tokens(texts)
    return {
        "texts": np.frombuffer(json.dumps(list(texts)).encode(), np.uint8),
        "vectors": np.stack([e.vector for e in encodings]).astype(np.float16),
        "start": np.cumsum([0, *(len(e.spans) for e in encodings)]),
        "tokens": np.concatenate([e.tokens @ directions for e in encodings]).astype(np.float16),
        "spans": np.concatenate([np.array(e.spans, np.int32).reshape(-1, 2) for e in encodings]),
    }


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    solid = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(path, lambda partial: save_file(solid, partial))
