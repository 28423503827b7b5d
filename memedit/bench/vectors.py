"""Realistic vectors in any number: encoded sentences, extended by a model fitted to them.

Encoding a million sentences takes an hour or more on one core, and random vectors are no substitute: embeddings of
edits lie in clusters (same relation, same name) of low intrinsic dimension, random Gaussians do not. So some thousands
of invented sentences are really encoded, and their vectors are explained by what the sentences are made of,

    v = mean + relation + first name + last name + initial + residual

(ridge regression on the factors). A further sentence's vector is the sum for its factors plus a residual drawn from a
normal distribution with the full covariance that the fitted residuals have, scaled back to length one. The queries are
real: encoded questions that ask some of the sentences in other words.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from memedit.bench.sentences import IntArray, draw, factor_sizes, factors_of, write_sentence
from memedit.encoders import Encoder
from memedit.types import FloatArray
from memedit.whole_files import write_whole

_RIDGE = 1.0
_CHUNK = 50_000
_POOL = 1_000_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """``vectors [n, d]`` to index, of which the first ``encoded`` are real; ``queries [q, d]`` all real.

    Query i asks for what sentence i states. ``explained`` is the share of variance that the factors explain.
    """

    vectors: FloatArray
    queries: FloatArray
    encoded: int
    explained: float


@dataclass(frozen=True, slots=True)
class VectorModel:
    """``effects`` holds one row ``[d]`` for each value of each factor (all factors one after the other)."""

    mean: FloatArray
    effects: FloatArray
    noise: FloatArray
    explained: float

    def sample(self, factors: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draw unit vectors ``[n, d]`` for ``factors [n, 4]``."""
        out = rng.standard_normal((len(factors), len(self.mean)), dtype=np.float32) @ self.noise
        out += self.mean
        for column in _columns(factors).T:
            out += self.effects[column]
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out


def fit(factors: IntArray, vectors: FloatArray) -> VectorModel:
    """Fit the model to encoded sentences: ``factors [n, 4]``, unit ``vectors [n, d]``."""
    columns = _columns(factors)
    width = sum(factor_sizes())
    mean = vectors.mean(axis=0)
    centred = (vectors - mean).astype(np.float64)
    gram = np.zeros((width, width))
    moment = np.zeros((width, vectors.shape[1]))
    for a in columns.T:
        np.add.at(moment, a, centred)
        for b in columns.T:
            np.add.at(gram, (a, b), 1.0)
    effects = np.linalg.solve(gram + _RIDGE * np.eye(width), moment)
    residual = centred - sum(effects[column] for column in columns.T)
    covariance = residual.T @ residual / max(1, len(vectors) - len(np.unique(columns)))
    values, axes = np.linalg.eigh(covariance)
    noise = (axes * np.sqrt(np.maximum(values, 0))).T
    explained = 1 - float((residual**2).sum() / (centred**2).sum())
    return VectorModel(mean, effects.astype(np.float32), noise.astype(np.float32), explained)


def make_corpus(
    n: int,
    *,
    encoder: Encoder,
    encoded: int = 20_000,
    queries: int = 1_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Make ``n`` vectors, ``min(n, encoded)`` of them encoded for real, and real queries.

    What is encoded is the same for every ``n`` up to a million, and is kept under ``$MEMEDIT_HOME/bench`` for the next
    run with the same encoder and arguments.
    """
    real = min(n, encoded)
    drawn = draw(max(n, _POOL), seed)[:n]
    sentences = [write_sentence(int(group), int(which)) for group, which in drawn[:real]]
    texts = [s.prompt for s in sentences] + [s.question for s in sentences[: min(queries, real)]]
    both = _encode_cached(texts, encoder, progress)
    factors = factors_of(drawn)
    model = fit(factors[:real], both[:real])
    rng = np.random.default_rng(seed)
    vectors = np.empty((n, both.shape[1]), dtype=np.float32)
    vectors[:real] = both[:real]
    for start in range(real, n, _CHUNK):
        vectors[start : start + _CHUNK] = model.sample(factors[start : start + _CHUNK], rng)
    return Corpus(vectors=vectors, queries=both[real:], encoded=real, explained=model.explained)


def _columns(factors: IntArray) -> IntArray:
    """Number the values of all factors in one row: ``[n, 4]`` into ``0..sum(sizes)``."""
    offsets = np.cumsum([0, *factor_sizes()[:-1]])
    columns: IntArray = factors + offsets
    return columns


def _encode_cached(texts: list[str], encoder: Encoder, progress: Callable[[int, int], None] | None) -> FloatArray:
    digest = hashlib.sha256("\n".join([encoder.fingerprint, *texts]).encode()).hexdigest()[:24]
    home = Path(os.environ.get("MEMEDIT_HOME", "~/.cache/memedit")).expanduser()
    path = home / "bench" / f"{digest}.safetensors"
    if path.is_file():
        return load_file(str(path))["vectors"]
    vectors = encoder.encode(texts, progress=progress)
    write_whole(path, lambda partial: save_file({"vectors": vectors}, partial))
    return vectors
