"""The retrieval benchmark: its sentences, its vector model, and a small run of it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from memedit.bench.retrieval import recall, run
from memedit.bench.sentences import draw, factor_sizes, factors_of, write_sentence
from memedit.bench.vectors import fit
from memedit.encoders.base import Progress
from memedit.errors import InputError
from memedit.types import Encoding, FloatArray


class WordEncoder:
    """Sum of a fixed random vector for each word: quick, deterministic, and near for texts that share words."""

    name = "words"
    dimension = 32
    fingerprint = "words-32"

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None) -> FloatArray:
        rows = np.stack([sum(map(self._word, text.split())) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Encoding]:
        raise NotImplementedError

    def _word(self, word: str) -> FloatArray:
        return np.random.default_rng(list(word.encode())).standard_normal(self.dimension).astype(np.float32)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path))


def test_sentences_are_distinct_and_repeatable() -> None:
    drawn = draw(3000, seed=1)
    np.testing.assert_array_equal(drawn, draw(3000, seed=1))
    prompts = {write_sentence(int(group), int(which)).prompt for group, which in drawn}
    assert len(prompts) == 3000
    with pytest.raises(InputError):
        draw(10**9)


def test_factors_say_what_a_sentence_is_made_of() -> None:
    drawn = draw(4000)
    factors = factors_of(drawn)
    assert (factors >= 0).all()
    assert (factors < factor_sizes()).all()
    heads: dict[tuple[int, ...], str] = {}
    for row, (group, which) in zip(factors.tolist(), drawn.tolist(), strict=True):
        prompt = write_sentence(group, which).prompt
        assert heads.setdefault(tuple(row), prompt) == prompt


def test_the_model_recovers_effects_and_noise() -> None:
    rng = np.random.default_rng(0)
    factors = factors_of(draw(6000))
    offsets = np.cumsum([0, *factor_sizes()[:-1]])
    effects = 0.1 * rng.standard_normal((sum(factor_sizes()), 8))
    scale = np.linspace(0.01, 0.08, 8)
    vectors = np.array([1, 1, 1, 1, 0, 0, 0, 0]) + effects[factors + offsets].sum(axis=1)
    vectors = (vectors + scale * rng.standard_normal(vectors.shape)).astype(np.float32)
    model = fit(factors, vectors)
    # the ridge leaves a little of the effects in the residual, which shows where there is next to no noise
    np.testing.assert_allclose(np.sqrt(np.diag(model.noise.T @ model.noise)), scale, rtol=0.1, atol=0.005)
    assert model.explained > 0.8
    sample = model.sample(factors, rng)
    np.testing.assert_allclose(np.linalg.norm(sample, axis=1), 1, atol=1e-5)
    whole = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(np.cov(sample.T) - np.cov(whole.T)).max() < 0.1 * np.cov(whole.T).max()


def test_a_small_run_reports_what_it_measured() -> None:
    result = run(
        3000, kind="ivf", encoder=WordEncoder(), encoded=1500, queries=40, options={"exact_below": 500, "probes": 0.5}
    )
    json.dumps(result)
    assert result["recall"] > 0.8
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"] <= result["latency_ms"]["max"]
    assert result["corpus"] == {**result["corpus"], "encoded": 1500, "drawn": 1500}
    assert result["speedup"] > 0
    again = run(3000, kind="exact", encoder=WordEncoder(), encoded=1500, queries=40)
    assert again["recall"] == 1.0
    with pytest.raises(InputError):
        run(10)


def test_recall_counts_what_was_found() -> None:
    assert recall(np.array([[1, 2], [3, 9]]), np.array([[2, 1], [3, 4]])) == 0.75
