"""Entering a model half-way gives what the whole model gives, for every family, with and without a cached prefix."""

from typing import Any

import pytest
import torch
from torch import Tensor

from memedit.models.partial import UpperLayers
from support.tiny import FAMILIES, LAYERS, tiny_model

LENGTH, PREFIX = 6, 4


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(3, 200, (3, LENGTH), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("first", [0, 1, LAYERS - 1])
def test_upper_layers_alone(model: Any, ids: Tensor, first: int) -> None:
    upper = UpperLayers(model, first)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    options = {"attention_mask": mask, "position_ids": positions, "use_cache": False}
    with upper.recorded() as record:
        whole = model(input_ids=ids, **options).logits
    with upper.entered(record[0]):
        part = model(input_ids=torch.zeros_like(ids), **options).logits
    torch.testing.assert_close(part[mask.bool()], whole[mask.bool()], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(input_ids=ids, **options).logits, whole)


@torch.no_grad()
def test_upper_layers_behind_a_cached_prefix(model: Any, ids: Tensor) -> None:
    upper = UpperLayers(model, 1)
    mask = torch.ones_like(ids)
    mask[2, :1] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with upper.recorded() as record:
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True)
    prefix = upper.cached(out.past_key_values, PREFIX)
    for _ in range(2):  # what is kept is not changed by being used
        with upper.entered(record[0][:, PREFIX:]):
            part = model(
                input_ids=ids[:, PREFIX:],
                attention_mask=mask,
                position_ids=positions[:, PREFIX:],
                past_key_values=upper.cache(prefix),
                use_cache=True,
            ).logits
        torch.testing.assert_close(part, out.logits[:, PREFIX:], rtol=1e-4, atol=1e-4)


def test_the_model_is_restored_after_an_exception(model: Any, ids: Tensor) -> None:
    before = model(input_ids=ids).logits
    upper = UpperLayers(model, 1)
    with pytest.raises(ZeroDivisionError), upper.entered(torch.zeros(3, LENGTH, 32)):
        raise ZeroDivisionError
    assert torch.equal(model(input_ids=ids).logits, before)
