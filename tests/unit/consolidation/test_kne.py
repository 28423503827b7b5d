"""Training an ensemble of neurons on a tiny model: what may change, what comes out, what it does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from memedit.consolidation import ConsolidationSettings, applied
from memedit.consolidation.base import EditRequest
from memedit.consolidation.trainers import TRAINERS, is_trainer
from memedit.consolidation.trainers.ensemble import Ensemble, NeuronMaps
from memedit.consolidation.trainers.kne import KNE, KNE_RANDOM, Kne, KneSettings
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.spec import ModelSpec
from support.tiny import tiny_model, tiny_tokenizer

REQUESTS = [
    EditRequest("b", "The mill is run by", "Ada", subject="The mill"),
    EditRequest("a", "The ferry sails to", "Oss", subject="The ferry"),
    EditRequest("c", "Who was born in Bu?", "Eve"),
]
SETTINGS = ConsolidationSettings(layers=(1, 2), contexts=1)
QUICK = Kne(KneSettings(share=0.25, steps=30, learning_rate=0.02, batch=2, kl=0.01, dtype="float32"))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return LoadedModel(tiny_model(request.param), tiny_tokenizer(), "tiny", "print")


def likelihood(loaded: LoadedModel, request: EditRequest) -> float:
    query = loaded.tokenizer(request.prompt)["input_ids"]
    answer = loaded.tokenizer(f" {request.target}")["input_ids"]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([[*query, *answer]])).logits[0].log_softmax(-1)
    return float(sum(logits[len(query) - 1 + i, token] for i, token in enumerate(answer)))


def test_trained_edits_hold_and_only_the_ensemble_changes(loaded: LoadedModel) -> None:
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    ticks: list[int] = []
    delta = QUICK(loaded, REQUESTS, SETTINGS, progress=lambda done, _: ticks.append(done))
    assert (delta.base, delta.method, delta.edits) == ("print", "kne", ("a", "b", "c"))
    assert ticks == list(range(1, 31))
    bare = [likelihood(loaded, request) for request in REQUESTS]
    with applied(loaded, delta):
        assert all(likelihood(loaded, r) > old + 1 for r, old in zip(REQUESTS, bare, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    spec = ModelSpec.of(loaded.model)
    neurons: dict[str, set[int]] = {}
    for name, term in delta.terms.items():
        change = term.matrix()
        moved = np.abs(change).sum(0 if name.endswith(NeuronMaps.of(spec).out.path) else 1).nonzero()[0]
        assert 0 < len(moved) <= 12, "a quarter of 48 neurons"
        layer = name.removeprefix(spec.layers).split(".")[1]
        neurons.setdefault(layer, set()).update(moved.tolist())
    assert set(neurons) == {"1", "2"}
    assert all(len(found) <= 12 for found in neurons.values()), "rows and columns of the same neurons"


def test_training_is_a_function_of_the_set(loaded: LoadedModel) -> None:
    short = Kne(replace(QUICK.settings, steps=3))
    one, other = short(loaded, REQUESTS, SETTINGS), short(loaded, REQUESTS[::-1], SETTINGS)
    for name, term in one.terms.items():
        assert np.array_equal(term.matrix(), other.terms[name].matrix())


def test_random_neurons_are_as_many_and_others(loaded: LoadedModel) -> None:
    settings = replace(QUICK.settings, steps=1)
    located = Kne(settings)(loaded, REQUESTS, SETTINGS)
    drawn = Kne(replace(settings, locate="random"), "kne_random")(loaded, REQUESTS, SETTINGS)
    assert drawn.method == "kne_random"
    assert {n: t.factors[0].shape for n, t in located.terms.items()} == {
        n: t.factors[0].shape for n, t in drawn.terms.items()
    }
    assert any(not np.array_equal(t.factors[0], drawn.terms[n].factors[0]) for n, t in located.terms.items())


def test_factors_equal_the_change_written_out(loaded: LoadedModel) -> None:
    spec = ModelSpec.of(loaded.model)
    ensemble = Ensemble(spec, {1: torch.tensor([3, 40])})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for leaf in ensemble.leaves:
            leaf.copy_(torch.randn(leaf.shape, generator=generator) * 0.3)
    ids = torch.tensor([[5, 9, 30, 41], [7, 7, 8, 1]])
    from memedit.types import WeightDelta

    delta = WeightDelta("print", "kne", "s", ("a",), ensemble.terms())
    with torch.no_grad():
        with applied(loaded, delta):
            written = loaded.model(input_ids=ids).logits
        with ensemble.applied(loaded.model, 2):
            hooked = loaded.model(input_ids=ids).logits
    torch.testing.assert_close(hooked, written, rtol=1e-4, atol=1e-4)


def test_trainers_are_methods_and_refuse_what_they_cannot_do(loaded: LoadedModel) -> None:
    assert (TRAINERS.get("kne"), TRAINERS.get("kne_random")) == (KNE, KNE_RANDOM)
    assert is_trainer("kne")
    assert not is_trainer("memit")
    with pytest.raises(InputError, match="no edits"):
        QUICK(loaded, [], SETTINGS)
    with pytest.raises(InputError, match="out of range"):
        KneSettings(locate="x")
