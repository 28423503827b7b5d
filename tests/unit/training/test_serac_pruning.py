"""Which layers a counterfactual model keeps: those without which the base says the answers least well."""

from typing import Any

import pytest
import torch

from memedit.adapters.serac.counterfactual import cut
from memedit.errors import InputError
from memedit.models.spec import ModelSpec
from memedit.models.token_rows import TokenRow
from memedit.training.serac.pruning import choose_layers
from support.tiny import tiny_model

ROWS = [TokenRow((5, 9, 30, 41, 7), 2, 0), TokenRow((8, 3, 22), 1, 1), TokenRow((11, 12, 13, 14), 3, 2)]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3"])
def base(request: pytest.FixtureRequest) -> Any:
    return tiny_model(request.param)


def loss(model: Any) -> float:
    """The answers' cross-entropy row by row, without padding."""
    total = 0.0
    for row in ROWS:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.ids])).logits[0, -row.scored - 1 : -1]
        labels = torch.tensor(row.ids[-row.scored :])
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return total


def test_the_layer_is_left_out_without_which_answers_lose_least(base: Any) -> None:
    left = [tuple(i for i in range(3) if i != out) for out in range(3)]
    assert choose_layers(base, ROWS, 2) == min(left, key=lambda layers: loss(cut(base, layers)))


def test_layers_go_one_by_one_and_the_rest_stays_in_order(base: Any) -> None:
    seen = []
    two, one = (choose_layers(base, ROWS, n, progress=lambda done, of: seen.append((done, of))) for n in (2, 1))
    assert seen == [(1, 1), (1, 2), (2, 2)]
    assert set(one) < set(two)
    assert one == min(((layer,) for layer in two), key=lambda layers: loss(cut(base, layers)))
    assert choose_layers(base, ROWS, 3) == (0, 1, 2)


def test_the_base_keeps_its_layers(base: Any) -> None:
    before = [id(layer) for layer in base.get_submodule(ModelSpec.of(base).layers)]
    choose_layers(base, ROWS, 1)
    assert [id(layer) for layer in base.get_submodule(ModelSpec.of(base).layers)] == before


@pytest.mark.parametrize("count", [0, -1, 4])
def test_impossible_counts_are_refused(base: Any, count: int) -> None:
    with pytest.raises(InputError, match=f"cannot keep {count} layers of a model that has 3"):
        choose_layers(base, ROWS, count)


@pytest.mark.parametrize("layers", [(), (0, 3), (1, 0), (0, 0), (-1,)])
def test_layers_that_are_not_there_are_refused(base: Any, layers: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="rising"):
        cut(base, layers)
