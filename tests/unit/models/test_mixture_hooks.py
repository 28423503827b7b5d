"""Mixtures: grouped products equal dense algebra, per row, from a column on, through decoding, and are then gone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from memedit.errors import InputError, UnsupportedModelError
from memedit.models.mixture_hooks import Mixture, Placement, Weights, mixture_rows
from memedit.models.spec import ModelSpec
from support.tiny import tiny_model

K, BATCH, LENGTH = 6, 4, 7
LAYERS = (1, 2)


def setup(family: str) -> tuple[Any, list[Mixture]]:
    model = tiny_model(family)
    spec = ModelSpec.of(model)
    assert spec.mlp_down is not None
    generator = torch.Generator().manual_seed(3)
    mixtures = [
        Mixture(
            f"{spec.layers}.{layer}.{spec.mlp_down.path}",
            torch.randn(K, spec.mlp_down.in_features, generator=generator) * 0.3,
            torch.randn(spec.mlp_down.out_features, K, generator=generator) * 0.3,
        )
        for layer in LAYERS
    ]
    return model, mixtures


@pytest.fixture(params=["llama", "gpt2"], scope="module")
def tiny(request: pytest.FixtureRequest) -> tuple[Any, list[Mixture]]:
    return setup(request.param)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(3, 200, (BATCH, LENGTH), generator=torch.Generator().manual_seed(5))


def weights(rows: int) -> Weights:
    generator = torch.Generator().manual_seed(rows)
    return tuple(torch.randn(rows, K, generator=generator) for _ in LAYERS)


def logits(model: Any, ids: Tensor, **options: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, **options).logits
    return found


def densely(model: Any, mixtures: list[Mixture], ids: Tensor, row_weights: Weights) -> Tensor:
    """The same by adding ``up diag(w) down`` to the weights of a copy, one row at a time."""
    import copy

    outputs = []
    for place, row in enumerate(ids):
        copied = copy.deepcopy(model)
        for number, mixture in enumerate(mixtures):
            delta = mixture.up @ torch.diag(row_weights[number][place]) @ mixture.down
            module = copied.get_submodule(mixture.name)
            delta = delta.T if type(module).__name__ == "Conv1D" else delta
            module.weight.data += delta
        outputs.append(logits(copied, row[None]))
    return torch.cat(outputs)


def test_every_row_gets_its_own_mixture(tiny: tuple[Any, list[Mixture]], ids: Tensor) -> None:
    model, mixtures = tiny
    mine = weights(BATCH)
    with mixture_rows(model, mixtures, Placement((0, 1, 2, 3), (0,) * 4, BATCH, LENGTH), weights=mine):
        found = logits(model, ids)
    torch.testing.assert_close(found, densely(model, mixtures, ids, mine), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, logits(model, ids), atol=1e-2)


def test_other_rows_are_untouched_to_the_last_bit(tiny: tuple[Any, list[Mixture]], ids: Tensor) -> None:
    model, mixtures = tiny
    bare = logits(model, ids)
    with mixture_rows(model, mixtures, Placement((1, 3), (0, 2), BATCH, LENGTH), weights=weights(2)):
        found = logits(model, ids)
    assert torch.equal(found[[0, 2]], bare[[0, 2]])
    assert torch.equal(found[3, :2], bare[3, :2]), "columns before a row's start are the bare model's"
    assert not torch.allclose(found[3, 2:], bare[3, 2:], atol=1e-3)
    assert torch.equal(logits(model, ids), bare), "hooks are gone"


def test_decoding_with_a_cache_goes_on_from_the_start_column(tiny: tuple[Any, list[Mixture]], ids: Tensor) -> None:
    model, mixtures = tiny
    place = Placement((0, 2), (LENGTH - 3, LENGTH - 3), BATCH, LENGTH - 2)
    with mixture_rows(model, mixtures, place, weights=weights(2)):
        whole = logits(model, ids)
    with mixture_rows(model, mixtures, place, weights=weights(2)), torch.no_grad():
        out = model(input_ids=ids[:, :-2], use_cache=True)
        steps = [out.logits[:, -1]]
        for column in (LENGTH - 2, LENGTH - 1):
            out = model(input_ids=ids[:, column : column + 1], past_key_values=out.past_key_values, use_cache=True)
            steps.append(out.logits[:, -1])
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, -3:], rtol=1e-4, atol=1e-4)


def test_beams_repeat_their_rows(tiny: tuple[Any, list[Mixture]], ids: Tensor) -> None:
    model, mixtures = tiny
    mine = weights(2)
    with mixture_rows(model, mixtures, Placement((0, 2), (1, 1), BATCH, LENGTH), weights=mine):
        once = logits(model, ids)
        twice = logits(model, ids.repeat_interleave(2, dim=0))
    torch.testing.assert_close(twice, once.repeat_interleave(2, dim=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunks", [(LENGTH,), (3, LENGTH - 3), (LENGTH - 1, 1)])
def test_a_router_decides_once_by_the_state_at_the_start(
    tiny: tuple[Any, list[Mixture]], ids: Tensor, chunks: tuple[int, ...]
) -> None:
    model, mixtures = tiny
    spec = ModelSpec.of(model)
    asked: list[Tensor] = []

    def route(states: Tensor, places: tuple[int, ...]) -> Weights:
        asked.append(states)
        assert len(states) == len(places)
        return tuple(states.mean(1)[:, None] * mine for mine in weights(1))

    place = Placement((1, 2), (LENGTH - 1, 4), BATCH, LENGTH)
    reads = f"{spec.layers}.1"
    with mixture_rows(model, mixtures, place, route=route, reads=reads), torch.no_grad():
        cache, at = None, 0
        for width in chunks:
            out = model(input_ids=ids[:, at : at + width], past_key_values=cache, use_cache=True)
            cache, at = out.past_key_values, at + width
        for _ in range(2):
            out = model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
    assert sum(len(states) for states in asked) == 2
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
    wanted = {(1, LENGTH - 1): states[1, -1], (2, 4): states[2, 4]}
    order = sorted(wanted, key=lambda key: (next(i for i in range(len(chunks)) if sum(chunks[: i + 1]) > key[1]), key))
    torch.testing.assert_close(torch.cat(asked), torch.stack([wanted[key] for key in order]), rtol=1e-4, atol=1e-4)


def test_a_row_may_bring_its_own_up_projection(tiny: tuple[Any, list[Mixture]], ids: Tensor) -> None:
    model, mixtures = tiny
    rows = torch.randn(BATCH, 32, generator=torch.Generator().manual_seed(9)) * 0.3
    own = [Mixture(mixtures[0].name, mixtures[0].down[:1], None), mixtures[1]]
    place = Placement((0, 1, 2, 3), (0, 0, 2, 0), BATCH, LENGTH)
    with mixture_rows(model, own, place, weights=(rows, None)):
        found = logits(model, ids)
    for row in range(BATCH):
        single = [Mixture(mixtures[0].name, mixtures[0].down[:1], rows[row][:, None]), mixtures[1]]
        with mixture_rows(model, single, Placement((0,), (place.starts[row],), 1, LENGTH), weights=(None, None)):
            alone = logits(model, ids[row : row + 1])
        torch.testing.assert_close(found[row], alone[0], rtol=1e-4, atol=1e-4)


def test_gradients_reach_components_and_weights(tiny: tuple[Any, list[Mixture]], ids: Tensor) -> None:
    model, mixtures = tiny
    mine = tuple(each.requires_grad_() for each in weights(BATCH))
    leaves = [Mixture(m.name, m.down.clone().requires_grad_(), m.up.clone().requires_grad_()) for m in mixtures]
    place = Placement((0, 1, 2, 3), (0, 1, 2, 3), BATCH, LENGTH)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with mixture_rows(model, leaves, place, weights=mine):
        model(input_ids=ids).logits.square().mean().backward()
    for tensor in (*mine, *(m.down for m in leaves), *(m.up for m in leaves)):
        assert tensor.grad is not None
        assert float(tensor.grad.abs().sum()) > 0


def test_what_does_not_fit_is_refused(tiny: tuple[Any, list[Mixture]]) -> None:
    model, mixtures = tiny
    with pytest.raises(InputError, match="columns"):
        Placement((0,), (LENGTH,), BATCH, LENGTH)
    with pytest.raises(InputError, match="in order"):
        Placement((1, 0), (0, 0), BATCH, LENGTH)
    place = Placement((0,), (0,), BATCH, LENGTH)
    with pytest.raises(InputError, match="either weights, or route"), mixture_rows(model, mixtures, place):
        pass
    wrong = [Mixture("no.such", mixtures[0].down, mixtures[0].up)]
    with (
        pytest.raises(UnsupportedModelError, match=r"no\.such"),
        mixture_rows(model, wrong, place, weights=weights(1)),
    ):
        pass
