"""The judge's network at work: vectors, pairs, what is kept on disk, and what does not fit."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from memedit.errors import FingerprintMismatchError, InputError
from memedit.scope.judge.model import (
    Calibration,
    Judge,
    JudgeModel,
    load_model,
    rounded,
    start_network,
    trained_arrays,
)
from memedit.scope.judge.network import JudgeNetwork
from support.tiny_encoder import save_tiny_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder):
    network, _ = start_network(folder)
    return JudgeModel("fingerprint", rounded(trained_arrays(network)), Calibration(), 0.5, 0.1)


def test_vectors_are_unit_and_do_not_depend_on_the_batch(folder, model):
    judge = Judge(folder, model)
    texts = ["who runs [MASK]?", "[MASK] is run by", "a much longer question about [MASK] and what it costs a month"]
    found = judge.vectors(texts)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(
        found, np.concatenate([Judge(folder, model).vectors([text]) for text in texts]), atol=1e-5
    )


def test_a_text_read_lately_is_not_read_again(folder, model, monkeypatch):
    judge = Judge(folder, model)
    first = judge.vectors(["who runs it", "it opens at", "who runs it"])
    assert np.array_equal(first[0], first[2])
    monkeypatch.setattr(JudgeNetwork, "read", lambda *_, **__: pytest.fail("read again"))
    assert np.array_equal(judge.vectors(["it opens at", "who runs it"]), first[[1, 0]])


def test_pairs_are_read_with_the_query_apart_from_the_edit(folder, model):
    judge = Judge(folder, model)
    pairs = [("who runs it", "it is run by"), ("it is run by", "who runs it"), ("who runs it and where", "it is")]
    found = judge.pair_logits(pairs)
    assert found.shape == (3, 2)
    assert not np.allclose(found[0], found[1], atol=1e-6), "the sides of a pair make no difference"
    np.testing.assert_allclose(found, np.concatenate([judge.pair_logits([pair]) for pair in pairs]), atol=1e-5)
    assert judge.pair_logits([]).shape == (0, 2)


def test_what_was_read_is_not_read_again(folder, model, monkeypatch):
    judge = Judge(folder, model)
    pairs = [("who runs it", "it is run by"), ("who runs it", "it opens at")]
    fresh = judge.pair_logits(pairs)
    other = Judge(folder, model)
    other.vectors(["who runs it"], keep=True)
    other.vectors(["it is run by", "it opens at"], keep=True)
    monkeypatch.setattr(JudgeNetwork, "read", lambda *_, **__: pytest.fail("read again"))
    np.testing.assert_allclose(other.pair_logits(pairs), fresh, atol=1e-5)


def test_stored_weights_take_a_byte_each_and_lose_nothing(folder, model, tmp_path):
    model.save(tmp_path)
    count = sum(array.size for array in model.arrays.values())
    assert (tmp_path / "judge.safetensors").stat().st_size < 1.3 * count + 20_000
    loaded = load_model(tmp_path)
    for name, array in model.arrays.items():
        np.testing.assert_array_equal(array, loaded.arrays[name], err_msg=name)
    network, _ = start_network(folder)
    for name, array in trained_arrays(network).items():
        np.testing.assert_allclose(array, rounded({name: array})[name], atol=0.02, err_msg=name)
    pairs = [("who runs it", "it is run by"), ("when does it open", "it opens at")]
    np.testing.assert_allclose(
        Judge(folder, loaded).pair_logits(pairs), Judge(folder, model).pair_logits(pairs), atol=2e-2
    )


@pytest.mark.parametrize("text", ["", "\ud800 x", "日本 x", "x" * 5000, "word " * 900 + "x", "\x00", "[MASK]" * 300])
def test_any_text_can_be_read(folder, model, text):
    judge = Judge(folder, model)
    assert np.isfinite(judge.vectors([text, "who"])).all()
    assert np.isfinite(judge.pair_logits([(text, "who"), ("who", text)])).all()


def test_threads_do_not_disturb_each_other(folder, model):
    judge = Judge(folder, model)
    asked = [["who runs it" + " and more" * n] * (n + 1) for n in range(6)]
    expected = [judge.vectors(texts) for texts in asked]
    fresh = Judge(folder, model)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(10):
            for found, one in zip(pool.map(fresh.vectors, asked), expected, strict=True):
                np.testing.assert_allclose(found, one, atol=1e-4)


def test_what_is_saved_comes_back(folder, model, tmp_path):
    chosen = replace(model, calibration=Calibration(both=(0.3, 0.7, -1.0)), threshold=0.4)
    chosen.save(tmp_path)
    loaded = load_model(tmp_path, "fingerprint")
    assert (loaded.threshold, loaded.calibration) == (0.4, chosen.calibration)
    assert loaded.fingerprint() == chosen.fingerprint() != model.fingerprint()
    np.testing.assert_allclose(
        Judge(folder, loaded).vectors(["who runs it"]), Judge(folder, chosen).vectors(["who runs it"]), atol=1e-2
    )


def test_weights_of_another_encoder_or_transformer_are_refused(folder, model, tmp_path):
    model.save(tmp_path)
    with pytest.raises(FingerprintMismatchError, match="was trained on encoder"):
        load_model(tmp_path, "another")
    (tmp_path / "judge.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path)
    name = next(iter(model.arrays))
    for arrays in (
        {k: v for k, v in model.arrays.items() if k != name},
        {**model.arrays, "head.9.weight": np.zeros(3, np.float32)},
        {**model.arrays, name: np.zeros(3, np.float32)},
    ):
        with pytest.raises(InputError, match="does not fit"):
            Judge(folder, replace(model, arrays=arrays)).vectors(["who"])
