"""Knowledge and query vectors: what is trained, what is kept, what is refused."""

import json
from pathlib import Path

import pytest
import torch

from memedit.encoders import encoder_fingerprint
from memedit.encoders.knowledge import (
    KnowledgeConfig,
    KnowledgeEncoder,
    knowledge_text,
    load_knowledge_encoder,
)
from memedit.encoders.knowledge_files import open_knowledge_encoder, save_knowledge_encoder
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from support.tiny_encoder import save_tiny_encoder

SHAPE = KnowledgeConfig(width=12, prototypes=5, lora_rank=2, lora_alpha=4, max_tokens=64)
TEXTS = ["the capital of freedonia is sylvania", "who", "a rather longer query about something else, is it not?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def knowledge(folder: Path) -> KnowledgeEncoder:
    return load_knowledge_encoder(folder, SHAPE, seed=3)


def test_vectors_have_the_stated_shapes_and_heads_differ(knowledge: KnowledgeEncoder) -> None:
    with torch.no_grad():
        assert knowledge.features(TEXTS).shape == (3, 64)
        assert knowledge.knowledge(TEXTS).shape == knowledge.queries(TEXTS).shape == (3, 12)
        assert knowledge.sentinel().shape == (1, 12)
        assert not torch.allclose(knowledge.knowledge(TEXTS), knowledge.queries(TEXTS))


def test_padding_does_not_change_a_vector(knowledge: KnowledgeEncoder) -> None:
    with torch.no_grad():
        together = knowledge.knowledge(TEXTS)
        alone = torch.cat([knowledge.knowledge([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_features_are_first_token_mean_maximum_and_minimum(knowledge: KnowledgeEncoder) -> None:
    inputs = knowledge.tokenizer(TEXTS[2], return_tensors="pt")
    with torch.no_grad():
        hidden = knowledge.backbone(**inputs).last_hidden_state[0]
        found = knowledge.features(TEXTS)[2]
    expected = torch.cat([hidden[0], hidden.mean(0), hidden.amax(0), hidden.amin(0)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_seed_decides_and_the_global_random_state_stays(folder: Path) -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    one, same, other = (load_knowledge_encoder(folder, SHAPE, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.weights_digest() == same.weights_digest() != other.weights_digest()


def test_only_heads_prototypes_and_lora_are_trained(knowledge: KnowledgeEncoder) -> None:
    own = {name for name, parameter in knowledge.named_parameters() if parameter.requires_grad}
    assert own == set(knowledge.trained_state())
    assert {"prototypes", "knowledge_head.project.weight", "query_head.refine.bias"} <= own
    assert any("lora_A" in name for name in own)
    assert not any("word_embeddings" in name for name in own)


def test_rank_zero_leaves_the_text_encoder_frozen(folder: Path) -> None:
    plain = load_knowledge_encoder(folder, KnowledgeConfig(width=8, lora_rank=0))
    assert not any("backbone" in name for name in plain.trained_state())


def test_files_round_trip(knowledge: KnowledgeEncoder, folder: Path, tmp_path: Path) -> None:
    save_knowledge_encoder(tmp_path, knowledge, encoder=folder, dtype=torch.float32)
    found = open_knowledge_encoder(tmp_path)
    assert found.weights_digest() == knowledge.weights_digest()
    with torch.no_grad():
        assert torch.equal(found.queries(TEXTS), knowledge.queries(TEXTS))
        assert torch.equal(found.sentinel(), knowledge.sentinel())
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_another_encoder_is_refused(knowledge: KnowledgeEncoder, folder: Path, tmp_path: Path) -> None:
    save_knowledge_encoder(tmp_path / "trained", knowledge, encoder=folder)
    other = save_tiny_encoder(tmp_path / "other", seed=9)
    with pytest.raises(FingerprintMismatchError, match="was trained over encoder"):
        open_knowledge_encoder(tmp_path / "trained", encoder=other)
    with pytest.raises(FingerprintMismatchError):
        open_knowledge_encoder(tmp_path / "trained", fingerprint="0" * 32)
    assert open_knowledge_encoder(tmp_path / "trained", fingerprint=encoder_fingerprint(folder)) is not None


def test_absent_and_damaged_files_are_told_apart(knowledge: KnowledgeEncoder, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="memedit train recipe"):
        open_knowledge_encoder(tmp_path)
    save_knowledge_encoder(tmp_path, knowledge, encoder=folder)
    (tmp_path / "knowledge.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="cannot read"):
        open_knowledge_encoder(tmp_path)
    record = json.loads((tmp_path / "knowledge.json").read_text())
    (tmp_path / "knowledge.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(InputError, match="format 99"):
        open_knowledge_encoder(tmp_path)
    (tmp_path / "knowledge.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        open_knowledge_encoder(tmp_path)


def test_weights_of_another_shape_are_refused(knowledge: KnowledgeEncoder, folder: Path) -> None:
    wider = load_knowledge_encoder(folder, KnowledgeConfig(width=16, prototypes=5, lora_rank=2))
    with pytest.raises(InputError, match="do not fit"):
        wider.load_trained_state(knowledge.trained_state())


@pytest.mark.parametrize("change", [{"width": 0}, {"prototypes": 0}, {"lora_rank": -1}, {"max_tokens": 2}])
def test_impossible_shapes_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="shape"):
        KnowledgeConfig(**change)


def test_knowledge_text_joins_prompt_and_target_with_one_space() -> None:
    assert knowledge_text("The capital is", "Paris") == "The capital is Paris"
    assert knowledge_text("The capital is ", "Paris") == "The capital is Paris"
    assert knowledge_text("The capital is", " Paris") == "The capital is Paris"
