"""Knowledge neurons: those found carry the answer, as many others of their layers do not."""

from typing import Any

import pytest
import torch

from memedit.consolidation.locate import knowledge_neurons
from memedit.errors import InputError
from memedit.models import LoadedModel
from support.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return LoadedModel(tiny_model("llama"), tiny_tokenizer(), "tiny", "print")


def test_neurons_are_found_and_suppressing_them_counts(loaded: LoadedModel) -> None:
    found = knowledge_neurons(loaded, ["The mill is run by", "Who runs the mill? It is"])
    assert found.neurons
    assert [n.attribution for n in found.neurons] == sorted((n.attribution for n in found.neurons), reverse=True)
    assert all(n.share == 1.0 for n in found.neurons), "two prompts, share 0.7: both"
    assert found.suppressed < found.before
    assert found.before - found.suppressed > abs(found.before - found.random_suppressed)
    again = knowledge_neurons(loaded, ["The mill is run by", "Who runs the mill? It is"])
    assert again == found


def test_a_lower_threshold_keeps_more(loaded: LoadedModel) -> None:
    few = knowledge_neurons(loaded, ["abc"], "Xy", threshold=0.5, steps=5)
    many = knowledge_neurons(loaded, ["abc"], "Xy", threshold=0.05, steps=5)
    assert few.answer == "Xy"
    assert {(n.layer, n.index) for n in few.neurons} < {(n.layer, n.index) for n in many.neurons}


@pytest.mark.parametrize(
    ("prompts", "answer", "options"),
    [([], None, {}), (["a"], " ", {}), (["a"], None, {"threshold": 1.0}), (["a", " \n"], "b", {}), ([""], "b", {})],
)
def test_what_cannot_be_traced_is_refused(
    loaded: LoadedModel, prompts: list[str], answer: str | None, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        knowledge_neurons(loaded, prompts, answer, **options)


def test_nothing_of_the_model_changes(loaded: LoadedModel) -> None:
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = loaded.model(input_ids=ids).logits
        knowledge_neurons(loaded, ["abc"], steps=2)
        assert torch.equal(loaded.model(input_ids=ids).logits, before)
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
