"""Causal tracing on tiny models: effects where they must be, and nothing left behind."""

import numpy as np
import pytest
import torch

from memedit.consolidation import EditRequest
from memedit.consolidation.trace import KINDS, PLACES, propose_layers, trace_layers
from memedit.errors import InputError
from support.consolidation_bench import REQUESTS, tiny_loaded, weights_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_restoring_all_that_is_read_brings_the_answer_back(family: str) -> None:
    loaded = tiny_loaded(family)
    before = weights_of(loaded.model)
    trace = trace_layers(loaded, REQUESTS, seed=1)
    assert 0 <= trace.corrupted < trace.clean <= 1
    # behind the last layer but one, the last token alone carries the answer, but for what the last layer reads
    last = trace.effects["state"][PLACES.index("last token")]
    assert last[1] > 0.5 * (trace.clean - trace.corrupted)
    assert all(trace.effects[kind].shape == (len(PLACES), 3) for kind in KINDS)
    assert np.isfinite(np.stack([trace.effects[kind] for kind in KINDS])).all()
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())


def test_tracing_is_seeded() -> None:
    loaded = tiny_loaded()
    one, same, other = (trace_layers(loaded, REQUESTS, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.effects["mlp"], same.effects["mlp"])
    assert not np.array_equal(one.effects["mlp"], other.effects["mlp"])


def test_layers_are_proposed_where_the_effect_is() -> None:
    effects = np.array([0, 0, 1, 3, 3, 2, 2, 0, 0, 9.0])
    assert propose_layers(effects) == (2, 3, 4, 5, 6)  # never the last layer
    assert propose_layers(effects, 2) == (3, 4)
    assert propose_layers(np.array([1.0, 2.0, 3.0])) == (0, 1)


def test_prompts_that_cannot_be_traced_are_refused() -> None:
    with pytest.raises(InputError, match="none of 1 prompts"):
        trace_layers(tiny_loaded(), [EditRequest("a", "Nothing of it is here", "x", "Rome")])
