"""A model that was loaded as a version answers its own edits, and the memory the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memedit.adapters import create_adapter
from memedit.consolidation.delta_files import load_delta, save_delta
from memedit.consolidation.loaded import open_version
from memedit.consolidation.records import DELTA
from memedit.errors import FingerprintMismatchError, InputError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.types import Edit, WeightDelta, WeightTerm
from support.saved_version import version_of
from support.tiny import tiny_model

CAPITAL = "The capital of Freedonia is"
MAYOR = "The mayor of Gotham is"


@pytest.fixture
def served(facts: EditMemory, tmp_path: Path) -> Callable[..., EditableModel]:
    """Loads a version that holds the edits given, on the memory of two facts."""

    def load(*edits: Edit) -> EditableModel:
        folder = version_of(tmp_path / "version", "llama", list(edits))
        return EditableModel.from_pretrained(folder, memory=facts, scope="subject", adapter="in_context")

    return load


def test_edits_in_the_weights_do_not_fire_and_are_named(
    facts: EditMemory, served: Callable[..., EditableModel]
) -> None:
    capital, mayor = facts.list()
    facts.set_states([capital.id], "consolidated")
    model = served(capital)
    first, second = model.plan([CAPITAL, MAYOR]).routes
    assert (first.adapter, first.decision.fired) == (None, ())
    assert [hit.edit.id for hit in first.decision.in_weights] == [capital.id]
    assert [hit.edit.id for hit in second.decision.fired] == [mayor.id]
    ids = model.tokenizer([CAPITAL], return_tensors="pt")["input_ids"]
    arguments = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(model.generate(ids, **arguments), model.base.generate(ids, **arguments))


def test_an_edit_the_weights_answer_in_plain_text_only_is_the_memorys_in_chats(
    facts: EditMemory, tmp_path: Path
) -> None:
    folder = version_of(tmp_path, "llama", facts.list(), chat=False)
    model = EditableModel.from_pretrained(folder, memory=facts, scope="subject", adapter="in_context")
    turn = [{"role": "user", "content": CAPITAL}]
    plain, chat = model.plan([CAPITAL, turn]).routes
    assert (plain.decision.fired, len(plain.decision.in_weights)) == ((), 1)
    assert (len(chat.decision.fired), chat.decision.in_weights) == (1, ())
    ids = model.tokenizer.apply_chat_template([turn], add_generation_prompt=True, return_tensors="pt")
    ids = ids if isinstance(ids, torch.Tensor) else ids["input_ids"]
    arguments = {"max_new_tokens": 4, "do_sample": False}
    said = model.generate(ids, **arguments)
    assert torch.equal(said[0, ids.shape[1] :][:4], torch.tensor(model.chat(turn, **arguments).token_ids))


def test_with_the_plain_base_the_memory_serves_consolidated_edits_again(
    facts: EditMemory, editable: EditableModel
) -> None:
    capital, _ = facts.list()
    facts.set_states([edit.id for edit in facts.list()], "consolidated")
    assert [hit.edit.id for hit in editable.explain(CAPITAL).decision.fired] == [capital.id]


def test_an_edit_changed_since_is_the_memorys_again(facts: EditMemory, served: Callable[..., EditableModel]) -> None:
    capital, _ = facts.list()
    facts.set_states([capital.id], "consolidated")
    model = served(capital)
    facts.update(capital.id, target="Ruritania City")
    assert [hit.edit.target for hit in model.explain(CAPITAL).decision.fired] == ["Ruritania City"]
    facts.update(capital.id, target="Sylvania City")
    assert model.explain(CAPITAL).decision.fired == ()
    newer = facts.supersede(capital.id, target="Klopstokia City")
    assert [hit.edit.id for hit in model.explain(CAPITAL).decision.fired] == [newer.id]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_base_is_there_while_something_needs_it_and_the_version_after(
    facts: EditMemory, tmp_path: Path, family: str
) -> None:
    folder = version_of(tmp_path, family, facts.list())
    model = EditableModel.from_pretrained(folder, memory=facts)
    version = model.version
    assert version is not None
    base = tiny_model(family)
    before = {name: tensor.clone() for name, tensor in model.base.state_dict().items()}
    changed = [name for name, tensor in base.state_dict().items() if not torch.allclose(before[name], tensor)]
    assert len(changed) == 1
    with version.as_base(model.base):
        for name, tensor in model.base.state_dict().items():
            torch.testing.assert_close(tensor, base.state_dict()[name], rtol=0, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.base.state_dict().items())


def test_adapters_are_made_on_the_base_they_were_trained_for(
    facts: EditMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = version_of(tmp_path, "llama", facts.list())
    name = "model.layers.1.mlp.down_proj.weight"
    seen = []

    def make(adapter: str, model: Any, tokenizer: Any) -> Any:
        seen.append(model.get_parameter(name).detach().clone())
        return create_adapter(adapter, model, tokenizer)

    monkeypatch.setattr("memedit.runtime.lazy.create_adapter", make)
    model = EditableModel.from_pretrained(folder, memory=facts, adapter="in_context")
    assert model.adapter.name == "in_context"
    torch.testing.assert_close(seen[0], tiny_model("llama").get_parameter(name).detach(), rtol=0, atol=1e-5)


def test_weights_that_the_record_does_not_describe_are_refused(facts: EditMemory, tmp_path: Path) -> None:
    folder = version_of(tmp_path, "llama", facts.list())
    tiny_model("llama").save_pretrained(folder)  # the base's weights beside the version's record
    with pytest.raises(FingerprintMismatchError, match="not those its record describes"):
        EditableModel.from_pretrained(folder, memory=facts)


def test_a_plain_checkpoint_is_no_version(tmp_path: Path) -> None:
    assert open_version(tmp_path, tiny_model("llama")) is None
    assert open_version("some/hub-id", tiny_model("llama")) is None


def test_deltas_survive_the_way_through_their_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    terms = {
        "thin": WeightTerm(up=rng.normal(size=(6, 1)), down=rng.normal(size=(1, 8))),
        "wide": WeightTerm(up=rng.normal(size=(6, 9)), down=rng.normal(size=(9, 8))),
        "dense": WeightTerm(dense=rng.normal(size=(6, 8))),
    }
    delta = WeightDelta("base", "memit", "settings", ("a", "b"), terms)
    save_delta(delta, tmp_path / DELTA)
    found = load_delta(tmp_path / DELTA)
    assert (found.base, found.method, found.settings, found.edits) == ("base", "memit", "settings", ("a", "b"))
    for name, term in terms.items():
        np.testing.assert_allclose(found.terms[name].matrix(), term.matrix(), rtol=1e-12)
    assert found.terms["thin"].dense is None
    assert found.terms["wide"].dense is not None
    (tmp_path / DELTA).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="weight delta"):
        load_delta(tmp_path / DELTA)
