"""Neurons of tiny models: raised on chosen rows, attributed to, suppressed."""

from typing import Any

import pytest
import torch

from memedit.errors import InputError, UnsupportedModelError
from memedit.models.mixture_hooks import Placement
from memedit.models.neuron_hooks import inputs_raised
from memedit.models.neurons import NeuronScan, TokenAsked, last_activations, neuron_modules
from memedit.models.segments import Segments
from memedit.models.spec import ModelSpec
from support.tiny import tiny_model

IDS = (5, 9, 30, 41, 77)


@pytest.fixture(scope="module", params=["llama", "gpt2", "gptj", "gemma3"])
def segments(request: pytest.FixtureRequest) -> Segments:
    return Segments(tiny_model(request.param))


def scan(segments: Segments) -> NeuronScan:
    return NeuronScan(segments, TokenAsked(IDS, 12))


def test_the_probability_is_the_models_own(segments: Segments) -> None:
    with torch.no_grad():
        logits = segments.model(input_ids=torch.tensor([IDS])).logits[0, -1]
    assert scan(segments).probability == pytest.approx(float(logits.softmax(-1)[12]), rel=1e-4)


def test_attributions_of_a_layer_add_up_to_what_it_does(segments: Segments) -> None:
    """Completeness (integrated gradients, arXiv 1703.01365): the sum is P(w) - P(0), to the error of the sum."""
    if segments.spec.family.startswith("gemma"):
        pytest.skip("a norm behind the MLP undoes any scaling and jumps at 0, where P(0) is")
    found = scan(segments)
    attributed = found.attributions(400).sum(1)
    for layer in range(3):
        factors = torch.ones_like(found.activations)
        factors[layer] = 0
        lost = found.probability - found.probability_with(factors)
        assert float(attributed[layer]) == pytest.approx(lost, rel=0.02, abs=2e-5)


def test_suppressing_everything_named_is_what_a_hook_on_the_module_does(segments: Segments) -> None:
    found = scan(segments)
    factors = torch.ones_like(found.activations)
    factors[1, 3:9] = 0.0

    def cut(_module: Any, args: Any) -> Any:
        changed = args[0].clone()
        changed[:, -1, 3:9] = 0.0
        return (changed,)

    handle = segments.model.get_submodule(found.modules[1]).register_forward_pre_hook(cut)
    try:
        with torch.no_grad():
            logits = segments.model(input_ids=torch.tensor([IDS])).logits[0, -1]
    finally:
        handle.remove()
    assert found.probability_with(factors) == pytest.approx(float(logits.softmax(-1)[12]), rel=1e-4)
    assert found.probability_with(torch.ones_like(factors)) == found.probability


def test_last_activations_do_not_depend_on_padding(segments: Segments) -> None:
    together = last_activations(segments, (0, 2), [IDS, IDS[:2]], pad=0)
    assert together.shape[:2] == (2, 2)
    torch.testing.assert_close(together[1:], last_activations(segments, (0, 2), [IDS[:2]], pad=0), rtol=1e-3, atol=1e-4)


def test_values_act_from_each_rows_start_on(segments: Segments) -> None:
    model = segments.model
    (name,) = neuron_modules(ModelSpec.of(model), (2,))
    ids = torch.tensor([IDS, IDS, IDS])
    values = torch.randn(2, int(segments.spec.intermediate_size or 0), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bare = model(input_ids=ids).logits
        with inputs_raised(model, {name: values}, Placement((0, 2), (1, 3), 3, 5)):
            raised = model(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids).logits, bare), "hooks are gone"
    assert torch.equal(raised[1], bare[1])
    torch.testing.assert_close(raised[0, :1], bare[0, :1])
    torch.testing.assert_close(raised[2, :3], bare[2, :3])
    assert (raised[0, 1:] - bare[0, 1:]).abs().amax(-1).min() > 1e-3
    assert (raised[2, 3:] - bare[2, 3:]).abs().amax(-1).min() > 1e-3


def test_layers_without_one_row_of_neurons_are_refused() -> None:
    from dataclasses import replace

    spec = ModelSpec.of(tiny_model("llama"))
    with pytest.raises(UnsupportedModelError, match="mixture of experts"):
        neuron_modules(replace(spec, mlp_down=None), (0,))
    with pytest.raises(InputError, match="0 to 2"):
        neuron_modules(spec, (3,))
