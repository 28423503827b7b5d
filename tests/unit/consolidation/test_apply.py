"""Weight deltas on live models: exact while they last, gone to the byte afterwards, and the same through PEFT."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from memedit.consolidation.apply import applied, to_peft_lora, write_delta
from memedit.errors import FingerprintMismatchError, InputError, UnsupportedModelError
from memedit.models import LoadedModel, ModelSpec
from memedit.types import WeightDelta, WeightTerm
from support.consolidation_bench import normal, tiny_loaded, weights_of

IDS = torch.tensor([[5, 9, 17, 40, 41, 80]])


def _delta(loaded: LoadedModel, rank: int = 2, *, dense: bool = False, layers: tuple[int, ...] = (0, 1)) -> WeightDelta:
    spec = ModelSpec.of(loaded.model)
    linear = spec.mlp_down
    assert linear is not None
    terms = {}
    for layer in layers:
        up = normal(linear.out_features, rank + layer, seed=layer).numpy()
        down = normal(rank + layer, linear.in_features, seed=layer + 9).numpy() * 0.1
        term = WeightTerm(dense=up @ down) if dense else WeightTerm(up=up, down=down)
        terms[f"{spec.layers}.{layer}.{linear.path}"] = term
    return WeightDelta(loaded.fingerprint, "memit", "settings", ("a",), terms)


def _logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma3"])
def test_the_delta_is_added_and_every_byte_comes_back(family: str) -> None:
    loaded = tiny_loaded(family)
    delta, before = _delta(loaded), weights_of(loaded.model)
    bare = _logits(loaded.model)
    with applied(loaded, delta):
        inside = _logits(loaded.model)
        for name, term in delta.terms.items():
            layer = loaded.model.get_submodule(name)
            change = (layer.weight - before[f"{name}.weight"]).detach().numpy()
            change = change.T if family == "gpt2" else change
            np.testing.assert_allclose(change, term.matrix(), atol=1e-6)
    assert not torch.allclose(inside, bare, atol=1e-3)
    assert torch.equal(_logits(loaded.model), bare)
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


def test_weights_come_back_after_an_exception() -> None:
    loaded = tiny_loaded()
    before = weights_of(loaded.model)
    with pytest.raises(RuntimeError, match="inside"), applied(loaded, _delta(loaded)):
        raise RuntimeError("inside")
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


def test_written_weights_are_the_applied_ones() -> None:
    loaded, other = tiny_loaded(), tiny_loaded()
    with applied(other, _delta(other)):
        inside = _logits(other.model)
    write_delta(loaded, _delta(loaded))
    assert torch.equal(_logits(loaded.model), inside)


def test_a_delta_of_another_base_is_refused() -> None:
    loaded, other = tiny_loaded("llama"), tiny_loaded("qwen2")
    with pytest.raises(FingerprintMismatchError, match="frozen base"):
        write_delta(loaded, _delta(other))
    alien = WeightDelta(loaded.fingerprint, "memit", "s", ("a",), {"model.layers.7.mlp.down_proj": WeightTerm()})
    with pytest.raises(InputError, match="layer 7"):
        write_delta(loaded, alien)
    wide = WeightTerm(dense=np.zeros((5, 5)))
    shaped = WeightDelta(loaded.fingerprint, "memit", "s", ("a",), {"model.layers.0.mlp.down_proj": wide})
    before = weights_of(loaded.model)
    with pytest.raises(UnsupportedModelError, match="shape"), applied(loaded, shaped):
        pass
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_peft_adapter_computes_the_same(family: str, tmp_path: Path) -> None:
    import peft

    loaded, other = tiny_loaded(family), tiny_loaded(family)
    delta = _delta(loaded)
    shape = to_peft_lora(loaded, delta, tmp_path)
    assert (shape.rank, shape.kept) == (3, 1.0)  # the wider layer's
    with applied(loaded, delta):
        expected = _logits(loaded.model)
    adapted = peft.PeftModel.from_pretrained(other.model, str(tmp_path)).eval()
    torch.testing.assert_close(_logits(adapted), expected, rtol=1e-4, atol=2e-4)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 3


def test_a_dense_delta_is_no_lora(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    with pytest.raises(InputError, match="whole weights"):
        to_peft_lora(loaded, _delta(loaded, dense=True), tmp_path)


@pytest.mark.parametrize("dense", [False, True])
def test_a_lora_of_a_given_rank_is_the_nearest_change(dense: bool, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    loaded = tiny_loaded()
    delta = _delta(loaded, rank=4, dense=dense)
    shape = to_peft_lora(loaded, delta, tmp_path, rank=2)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    shares = []
    for name, term in delta.terms.items():
        up, down = (tensors[f"base_model.model.{name}.lora_{part}.weight"] for part in "BA")
        singular = np.linalg.svd(term.matrix(), compute_uv=False)
        missing = np.linalg.norm(term.matrix() - up @ down)
        np.testing.assert_allclose(missing, np.linalg.norm(singular[2:]), rtol=1e-4)
        shares.append(np.linalg.norm(singular[:2]) / np.linalg.norm(singular))
    assert shape.rank == 2
    assert shape.kept == pytest.approx(min(shares))
    assert to_peft_lora(loaded, delta, tmp_path, rank=500).kept == pytest.approx(1.0)


def test_numbers_that_are_not_finite_are_seen() -> None:
    loaded = tiny_loaded()
    assert _delta(loaded).finite
    broken = WeightTerm(dense=np.array([[np.nan]]))
    assert not WeightDelta("b", "m", "s", ("a",), {"x": broken}).finite
