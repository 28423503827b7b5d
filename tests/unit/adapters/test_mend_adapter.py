"""MEND on tiny models: factors made once, applied exactly where an edit fires, refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from memedit.adapters import create_adapter
from memedit.adapters.base import Adapter, AdapterBatch, DecodesInSteps, MixesTargets, Row
from memedit.adapters.hypernet.adapter import MendAdapter
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.models.hypernet.network import HyperNetwork, compressed
from memedit.models.spec import ModelSpec
from memedit.models.weights import weights_replaced
from support.hypernet_bench import SHAPE, write_hypernet
from support.recipe_bench import make_edit
from support.tiny import HIDDEN, INTERMEDIATE, tiny_model, tiny_tokenizer

EDITS = [make_edit(0), make_edit(1, "The ferry sails to", "Brightwater"), make_edit(2, "Ada was born in", "Oss")]
TEXTS = ["who runs the mill", "where does the ferry go", "an unrelated question"]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    model, tokenizer = tiny_model(request.param), tiny_tokenizer()
    return model, tokenizer, write_hypernet(tmp_path_factory.mktemp("mend"), model, tokenizer)


@pytest.fixture(scope="module")
def adapter(made: tuple[Any, Any, Path]) -> MendAdapter:
    model, tokenizer, folder = made
    return MendAdapter(model, tokenizer, weights=folder)


def read(model: Any, adapter: MendAdapter, tokenizer: Any, texts: list[str], edits: list[tuple[Any, ...]]) -> Tensor:
    """Logits behind the last token of each text ``[B, v]``, with edits applied."""
    rows = tuple(Row(tuple(tokenizer(text)["input_ids"]), text) for text in texts)
    length = max(len(row.ids) for row in rows)
    pads = tuple(length - len(row.ids) for row in rows)
    ids = torch.tensor([[0] * pad + list(row.ids) for pad, row in zip(pads, rows, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * len(row.ids) for pad, row in zip(pads, rows, strict=True)])
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad(), adapter.active(AdapterBatch(rows, tuple(edits), pads), adapter.prepare(EDITS)):
        logits: Tensor = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1]
    return logits


def test_is_an_adapter_that_decodes_in_steps_and_mixes_no_target(made: tuple[Any, Any, Path]) -> None:
    model, tokenizer, folder = made
    adapter = create_adapter("mend", model, tokenizer, weights=folder)
    assert isinstance(adapter, Adapter)
    assert isinstance(adapter, DecodesInSteps)
    assert not isinstance(adapter, MixesTargets)
    row = Row((5, 6), "ab")
    assert adapter.rewrite(row, EDITS, {}) is row
    assert adapter.model() is None


def test_an_edits_factors_do_not_depend_on_other_edits(adapter: MendAdapter) -> None:
    others = [make_edit(9 + i, f"The lake of place {i} is", f"name {i}" * (1 + i % 3)) for i in range(20)]
    alone = adapter.prepare(EDITS[:1])["e0"]
    assert adapter.prepare([*others, *EDITS])["e0"] == alone
    with torch.inference_mode():
        assert adapter.prepare(EDITS[:1])["e0"] == alone


def test_factors_are_bounded_in_rank_and_bytes(adapter: MendAdapter) -> None:
    blobs = adapter.prepare([*EDITS, make_edit(3, "A long one:", "x" * 60)])
    for blob in blobs.values():
        down, up = load(blob)["down"], load(blob)["up"]
        assert down.shape == (2, 4, INTERMEDIATE)
        assert up.shape == (2, 4, HIDDEN)
        assert down.dtype == up.dtype == torch.float16
        assert len(blob) < 2 * 2 * 4 * (INTERMEDIATE + HIDDEN) + 300
    assert adapter.prepare([replace(EDITS[0], target=" ")]) == {}


def test_firing_equals_factors_added_to_the_weights(made: tuple[Any, Any, Path], adapter: MendAdapter) -> None:
    model, tokenizer, _ = made
    spec, factors = ModelSpec.of(model), load(adapter.prepare(EDITS[:1])["e0"])
    changed = {}
    for number, name in enumerate(SHAPE.modules(spec)):
        change = factors["up"][number].float().T @ factors["down"][number].float()
        weight = model.get_parameter(f"{name}.weight")
        changed[f"{name}.weight"] = weight + (change.T if weight.shape != change.shape else change)
    fired = read(model, adapter, tokenizer, TEXTS[:1], [tuple(EDITS[:1])])
    with weights_replaced(model, changed):
        written = read(model, adapter, tokenizer, TEXTS[:1], [()])
    torch.testing.assert_close(fired, written, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(fired, read(model, adapter, tokenizer, TEXTS[:1], [()]), atol=1e-2)


def test_rows_get_their_own_edits_and_others_stay_bit_for_bit(
    made: tuple[Any, Any, Path], adapter: MendAdapter
) -> None:
    model, tokenizer, _ = made
    bare = read(model, adapter, tokenizer, TEXTS, [(), (), ()])
    both = read(model, adapter, tokenizer, TEXTS, [(EDITS[0],), (EDITS[1], EDITS[2]), ()])
    assert torch.equal(both[2], bare[2])
    for row, edits in enumerate([(EDITS[0],), (EDITS[1], EDITS[2])]):
        alone = read(model, adapter, tokenizer, TEXTS[row : row + 1], [edits])
        torch.testing.assert_close(both[row : row + 1], alone, atol=1e-3, rtol=1e-3)
        assert not torch.allclose(both[row], bare[row], atol=1e-2)
    assert torch.equal(read(model, adapter, tokenizer, TEXTS, [(), (), ()]), bare)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_decoding_one_token_is_reading_it(made: tuple[Any, Any, Path], adapter: MendAdapter) -> None:
    model, _, _ = made
    artefacts = adapter.prepare(EDITS)
    batch = AdapterBatch((Row((40,), "x"), Row((41,), "y")), ((EDITS[0],), ()), (0, 0))
    ids = torch.tensor([[40], [41]])
    with torch.no_grad():
        with adapter.active(batch, artefacts):
            whole = model(input_ids=ids).logits
        with adapter.decoding(batch, artefacts):
            step = model(input_ids=ids).logits
    assert torch.equal(whole, step)


def test_an_untrained_network_takes_a_step_down_the_normalised_gradient() -> None:
    network = HyperNetwork(SHAPE, 6, 4, step_size=0.01)
    network.normalise_by(torch.full((10,), 0.5), torch.full((10,), 2.0))
    x, d = torch.randn(2, 3, 6), torch.randn(2, 3, 4)
    down, up = network(x, d)
    change = up.transpose(1, 2) @ down
    wanted = -0.01 * ((d - 0.5) / 2).transpose(1, 2) @ ((x - 0.5) / 2)
    torch.testing.assert_close(change, wanted)


def test_compressed_factors_are_the_nearest_of_their_rank() -> None:
    torch.manual_seed(0)
    down, up = torch.randn(2, 7, 30), torch.randn(2, 7, 20)
    small_down, small_up = compressed(down, up, 4)
    assert small_down.shape == (2, 4, 30)
    assert small_up.shape == (2, 4, 20)
    whole = up.transpose(1, 2) @ down
    missing = torch.linalg.matrix_norm(whole - small_up.transpose(1, 2) @ small_down)
    tail = torch.linalg.svdvals(whole)[:, 4:].square().sum(1).sqrt()
    torch.testing.assert_close(missing, tail, rtol=1e-4, atol=1e-4)
    assert compressed(down, up, 7) == (down, up)


def test_refuses_what_is_not_its_own(made: tuple[Any, Any, Path], adapter: MendAdapter, tmp_path: Path) -> None:
    model, tokenizer, folder = made
    batch = AdapterBatch((Row((40,), "x"),), ((EDITS[0],),), (0,))
    other = save({"down": torch.zeros(2, 4, 7), "up": torch.zeros(2, 4, HIDDEN)})
    for blob, message in ((b"no tensors", "damaged"), (other, "e0")):
        with pytest.raises(InputError, match=message), adapter.active(batch, {"e0": blob}):
            pass
    with pytest.raises(ModelNotFoundError, match="memedit train hypernet"):
        MendAdapter(model, tokenizer, weights=tmp_path)
    with pytest.raises(FingerprintMismatchError, match="weights"):
        MendAdapter(tiny_model(model.config.model_type, seed=5), tokenizer, weights=folder)
    for wrong in ({"rank": 0}, {"layers": (2, 1)}, {"factors": 0}):
        with pytest.raises(InputError, match="out of range"):
            replace(SHAPE, **wrong)
