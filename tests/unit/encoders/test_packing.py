"""Linear maps whose weights were stored in eight bits, multiplied as such."""

import pytest
import torch

from memedit.encoders.packing import EightBitLinear, PackedLayer, PackedLinear, pack_layers


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def on_the_grid(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return a weight as it comes out of int8 with a float16 scale a row."""
    made = torch.Generator().manual_seed(seed)
    whole = torch.randint(-127, 128, shape, generator=made)
    whole[:, 0] = 127
    scales = (0.001 + 0.01 * torch.rand(shape[0], 1, generator=made)).half().float()
    return whole.float() * scales


def test_products_are_those_of_the_weight_but_for_the_rounding_of_what_comes_in() -> None:
    weight, bias = on_the_grid(48, 32), torch.randn(48)
    x = torch.randn(3, 5, 32) * torch.logspace(-3, 3, 15).reshape(3, 5, 1)
    found, exact = EightBitLinear(weight, bias)(x) - bias, x @ weight.T
    assert ((found - exact).norm(dim=-1) < 0.04 * exact.norm(dim=-1)).all()
    assert torch.equal(EightBitLinear(weight, bias)(torch.zeros(2, 32)), bias.expand(2, -1))


def test_the_largest_products_do_not_overflow() -> None:
    weight = torch.full((8, 256), 127.0)
    found = EightBitLinear(weight, torch.zeros(8))(torch.ones(1, 256))
    torch.testing.assert_close(found, torch.full((1, 8), 127.0 * 256), rtol=1e-3, atol=0)


def test_a_row_comes_out_the_same_whatever_its_company() -> None:
    layer = EightBitLinear(on_the_grid(48, 32), torch.randn(48))
    x = torch.randn(40, 32) * torch.logspace(-2, 2, 40)[:, None]
    together = layer(x)
    assert all(torch.equal(layer(x[i : i + 1]), together[i : i + 1]) for i in range(40))


def test_another_weight_is_not_rounded() -> None:
    with pytest.raises(ValueError, match="eight bits"):
        EightBitLinear(torch.randn(8, 16), torch.zeros(8))


@pytest.mark.parametrize(("in_eight_bits", "kind"), [(True, EightBitLinear), (False, PackedLinear)])
def test_layers_are_packed_as_they_were_stored(*, in_eight_bits: bool, kind: type) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    plain, packed = BertModel(config).eval(), BertModel(config).eval()
    if in_eight_bits:
        rounded = {
            name: on_the_grid(*value.shape, seed=i) if value.ndim == 2 and "embeddings" not in name else value
            for i, (name, value) in enumerate(plain.state_dict().items())
        }
        plain.load_state_dict(rounded)
    packed.load_state_dict(plain.state_dict())
    pack_layers(packed)
    for layer in packed.encoder.layer:
        assert isinstance(layer, PackedLayer)
        parts = [part for part in layer.modules() if isinstance(part, EightBitLinear | PackedLinear)]
        assert len(parts) == 4
        assert all(isinstance(part, kind) for part in parts)
    ids = torch.arange(2, 12).reshape(2, 5)
    with torch.inference_mode():
        one, other = (model(input_ids=ids).last_hidden_state for model in (plain, packed))
    assert (one - other).norm() < (0.05 if in_eight_bits else 1e-5) * one.norm()
