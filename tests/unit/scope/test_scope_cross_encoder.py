"""The second look at close calls: what is read, what it may change, and what it leaves alone."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scope_bench import HashedWords
from test_scope_classifier import random_model

from memedit.errors import InputError
from memedit.scope.classifier import ClassifierScope, load_model
from memedit.scope.classifier.cross_encoder import (
    MAX_TOKENS,
    RANK,
    REACH,
    SCALE,
    SHARPNESS,
    CrossEncoder,
    load_transformer,
    masked_pair,
    moved,
)

sys.path.append(str(Path(__file__).parents[1] / "encoders"))
from tiny_encoder import save_tiny_encoder

LAYER = "encoder.layer.1.attention.self.value"
WIDTH = 16


class FiledWords(HashedWords):
    """Hashed words whose files are those of a tiny transformer."""

    def __init__(self, folder):
        self.folder = folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny"))


def cross_weights(bias=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "out.weight": rng.standard_normal(WIDTH).astype(np.float16),
        "out.bias": np.full(1, bias, np.float16),
        f"{LAYER}.a": rng.standard_normal((RANK, WIDTH)).astype(np.float16),
        f"{LAYER}.b": rng.standard_normal((WIDTH, RANK)).astype(np.float16),
    }


def test_the_subject_is_masked_in_both_texts_and_sentences_before_it_are_cut():
    query = "It rained. In which city does Ana Reyes live?"
    span = (query.index("Ana"), query.index(" live"))
    assert masked_pair(query, span, "The home of Ana Reyes is in", "Ana Reyes") == (
        "In which city does X live?",
        "The home of X is in",
    )
    assert masked_pair("Peru", (0, 4), "The capital of it is", "Peru") == ("X", "The capital of it is")


def test_logits_are_those_of_the_transformer_with_its_changes(folder):
    weights, pairs = cross_weights(0.25), [("who runs x", "x is run by"), ("a much longer question of x?", "x")]
    model, tokenizer = load_transformer(folder)
    change = SCALE * weights[f"{LAYER}.b"].astype(np.float32) @ weights[f"{LAYER}.a"].astype(np.float32)
    with torch.no_grad():
        model.get_submodule(LAYER).weight.add_(torch.from_numpy(change))
        expected = []
        for query, text in pairs:
            tokens = model(**tokenizer(query, text, return_tensors="pt")).last_hidden_state[0]
            pooled = tokens.mean(0).numpy()
            expected.append(SHARPNESS * (pooled @ weights["out.weight"].astype(np.float32) + 0.25))
    cross = CrossEncoder(folder, weights)
    np.testing.assert_allclose(cross.logits(pairs), expected, atol=1e-3)
    np.testing.assert_allclose(cross.logits(pairs, batch_size=1), expected, atol=1e-3)
    assert cross.logits([]).shape == (0,)


def test_threads_do_not_disturb_each_other(folder):
    cross = CrossEncoder(folder, cross_weights())
    asked = [[("who runs x" + " and more" * n, "x is run by")] * (n + 1) for n in range(6)]
    expected = [cross.logits(pairs) for pairs in asked]
    fresh = CrossEncoder(folder, cross_weights())
    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            for found, one in zip(pool.map(fresh.logits, asked), expected, strict=True):
                np.testing.assert_allclose(found, one, atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"out.weight": np.zeros(WIDTH + 1, np.float16)},
        {f"{LAYER}.b": np.zeros((WIDTH + 1, RANK), np.float16)},
        {"encoder.layer.7.dense.a": np.zeros((RANK, WIDTH)), "encoder.layer.7.dense.b": np.zeros((WIDTH, RANK))},
    ],
)
def test_weights_of_another_transformer_are_refused(folder, wrong):
    with pytest.raises(InputError, match=r"does not fit .*memedit train scope"):
        CrossEncoder(folder, cross_weights() | wrong).logits([("who runs x", "x is run by")])


@pytest.mark.parametrize("text", ["", "\ud800 x", "日本 x", "x" * 5000, "word " * 900 + "x", "\x00"])
def test_any_text_can_be_read(folder, text):
    assert MAX_TOKENS <= 96  # what the tiny transformer has places for
    assert np.isfinite(CrossEncoder(folder, cross_weights()).logits([(text, "x is"), ("x is", text)])).all()


def test_a_logit_moves_by_no_more_than_the_reach():
    far = np.array([-1e3, 0.0, 1e3, 1.0], np.float32)
    np.testing.assert_allclose(moved(np.full(4, 2.0, np.float32), far)[:3], [2 - REACH, 2, 2 + REACH])
    assert 2.0 < moved(np.full(4, 2.0, np.float32), far)[3] < 2 + REACH


def decided(encoder, folder, bench, queries, edits, *, cross):
    """What scores are made of, by query and edit: the logit, or what a second look made of it."""
    model = replace(random_model(encoder), cross=cross)
    model.save(folder)
    scope = ClassifierScope(encoder, weights=folder)
    asked = [bench.ask(query, edits) for query in queries]
    found = scope.decide([q for q, _ in asked], [c for _, c in asked], threshold=0.0)
    return [
        {hit.edit.id: hit.reasons.get("second_look", hit.reasons["logit"]) for hit in decision.considered}
        for decision in found
    ]


@pytest.fixture
def edits(bench):
    return [
        bench.edit("The capital of Peru is", "Cusco", subject="Peru"),
        bench.edit("Who sings Blue Moon?", "Ana", subject="Blue Moon"),
        bench.edit("Which year came first?", "1999"),
    ]


@pytest.fixture
def filed(folder):
    return FiledWords(folder)


def test_close_calls_are_moved_and_all_else_stays(filed, bench, edits, tmp_path, monkeypatch):
    queries = ["Tell me the capital of Peru", "who ever sang Blue Moon", "The capital of Peru is", "Which year?"]
    plain = decided(filed, tmp_path, bench, queries, edits, cross=None)
    monkeypatch.setattr("memedit.scope.classifier.cross_encoder.REACH", 1e3)  # all calls are close
    sure = decided(filed, tmp_path, bench, queries, edits, cross=cross_weights() | {"out.bias": np.full(1, 50.0)})
    peru, moon, _ = (edit.id for edit in edits)
    changed = {(n, name) for n, row in enumerate(plain) for name in row if row[name] != sure[n][name]}
    assert changed == {(0, peru), (1, moon)}  # whose subject stands there, but no verbatim prompt
    assert all(sure[n][name] > plain[n][name] for n, name in changed)
    monkeypatch.setattr("memedit.scope.classifier.cross_encoder.REACH", 0.0)  # none is
    assert decided(filed, tmp_path, bench, queries, edits, cross=cross_weights()) == plain


def test_the_score_follows_the_second_look_and_both_logits_are_told(filed, bench, edits, tmp_path):
    model = replace(random_model(filed), cross=cross_weights() | {"out.bias": np.full(1, 50.0, np.float16)})
    query, found = bench.ask("Tell me the capital of Peru", edits[:1])
    model.save(tmp_path)
    (plain,) = ClassifierScope(filed, weights=tmp_path).decide([query], [found], threshold=0.0)[0].considered
    assert abs(plain.reasons["logit"] - model.undecided) < REACH, "not a close call: choose other weights"
    assert plain.reasons["second_look"] == pytest.approx(plain.reasons["logit"] + REACH, abs=1e-4)
    assert plain.score == pytest.approx(model.probability(plain.reasons["second_look"], absent=False))


def test_it_is_asked_of_no_query_that_is_running_text(filed, bench, edits, tmp_path, monkeypatch):
    monkeypatch.setattr("memedit.scope.classifier.cross_encoder.REACH", 1e3)
    behind = ["Peru " + "and a word more " * 10]
    cut_short = ["Words and words. " * 30 + "The sights of Peru"]  # as windows of a long passage are
    for text in (behind, cut_short):
        plain = decided(filed, tmp_path, bench, text, edits, cross=None)
        assert decided(filed, tmp_path, bench, text, edits, cross=cross_weights()) == plain


def test_queries_of_a_batch_do_not_disturb_each_other(filed, bench, edits, tmp_path, monkeypatch):
    monkeypatch.setattr("memedit.scope.classifier.cross_encoder.REACH", 1e3)
    queries = ["Tell me the capital of Peru", "who ever sang Blue Moon, of all the songs there are", "", "Peru?"]
    together = decided(filed, tmp_path, bench, queries, edits, cross=cross_weights())
    for query, whole in zip(queries, together, strict=True):
        (alone,) = decided(filed, tmp_path, bench, [query], edits, cross=cross_weights())
        assert alone == {name: pytest.approx(logit, abs=1e-3) for name, logit in whole.items()}


def test_weights_round_trip_and_count_for_the_fingerprint(filed, tmp_path):
    model = replace(random_model(filed), cross=cross_weights())
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.fingerprint() == model.fingerprint() != random_model(filed).fingerprint()
    for name, array in cross_weights().items():
        np.testing.assert_array_equal(loaded.cross[name], array)


def test_an_encoder_without_files_is_judged_without_it(encoder, bench, edits, tmp_path):
    query = ["Tell me the capital of Peru"]
    plain = decided(encoder, tmp_path, bench, query, edits, cross=None)
    assert decided(encoder, tmp_path, bench, query, edits, cross=cross_weights()) == plain
