import pytest
import torch

from memedit.errors import InputError
from memedit.models.spec import ModelSpec
from support.tiny import FAMILIES, HIDDEN, INTERMEDIATE, LAYERS, tiny_model

DOWN = {"phi": "mlp.fc2", "gpt2": "mlp.c_proj", "gptj": "mlp.fc_out", "gpt_neox": "mlp.dense_4h_to_h"}
OUT = {
    "phi": "self_attn.dense", "gpt2": "attn.c_proj", "gptj": "attn.out_proj", "gpt_neox": "attention.dense",
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_found_whatever_the_family_calls_them(family):
    model = tiny_model(family)
    spec = ModelSpec.of(model)
    assert spec.n_layers == LAYERS
    assert (spec.hidden_size, spec.intermediate_size) == (HIDDEN, INTERMEDIATE)
    assert spec.mlp_down.path == DOWN.get(family, "mlp.down_proj")
    assert spec.attention_out.path == OUT.get(family, "self_attn.o_proj")
    assert model.get_submodule(spec.embedding) is model.get_input_embeddings()
    assert model.get_submodule(spec.head) is model.get_output_embeddings()
    assert spec.mlp_down.transposed == (family == "gpt2")


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_maps_inputs_to_outputs(family):
    model = tiny_model(family)
    spec = ModelSpec.of(model)
    layer = spec.layer(model, 1)
    for linear in spec.linears:
        weight = linear.weight(layer)
        assert weight.shape == (linear.out_features, linear.in_features)
        module = layer.get_submodule(linear.path)
        x = torch.randn(2, linear.in_features)
        bias = module.bias if module.bias is not None else 0.0
        torch.testing.assert_close(x @ weight.T + bias, module(x))


def test_weight_is_the_live_parameter():
    model = tiny_model("gpt2")
    spec = ModelSpec.of(model)
    layer = spec.layer(model, 0)
    weight = spec.mlp_down.weight(layer)
    assert weight.data_ptr() == layer.get_submodule(spec.mlp_down.path).weight.data_ptr()


def test_names_and_layers_are_checked():
    model = tiny_model()
    spec = ModelSpec.of(model)
    assert spec.find("down_proj") is spec.find("mlp.down_proj")
    with pytest.raises(InputError, match="q_proj"):
        spec.find("nope")
    with pytest.raises(InputError, match="0 to 2"):
        spec.layer(model, 3)
    assert spec.layer(model, -1) is spec.layer(model, 2)
