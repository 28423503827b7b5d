"""WISE and MEMOIR on tiny models: what they train, who is routed to them, rows apart."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from memedit.adapters.base import Adapter, DecodesInSteps
from memedit.adapters.side_memory.base import SideMemoryAdapter
from memedit.adapters.side_memory.memoir import Hash, MemoirMemory, MemoirSettings, train_memoir
from memedit.adapters.side_memory.site import SideSite
from memedit.adapters.side_memory.wise import WiseSettings, activation, apart, merge, train_wise
from memedit.errors import InputError, UnsupportedModelError
from memedit.memory import EditMemory
from memedit.models.mixture_hooks import Placement
from memedit.models.side_outputs import side_output
from memedit.runtime import EditableModel
from support.adapter_bench import batch_logits, said
from support.hashing_encoder import HashingEncoder
from support.recipe_bench import make_edit
from support.tiny import tiny_model, tiny_tokenizer

EDITS = [make_edit(0), make_edit(1, "The ferry sails to", "Oss"), make_edit(2, "Ada was born in", "Bu")]
MEMOIR = MemoirSettings(learning_rate=20.0)
WISE = WiseSettings(learning_rate=20.0, margins=(0.5, 2.0, 1.0), steps=30)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return tiny_model(request.param), tiny_tokenizer()


@pytest.fixture(scope="module")
def site(base: tuple[Any, Any]) -> SideSite:
    return SideSite(*base, layer=1)


@pytest.fixture(scope="module")
def memoir(site: SideSite) -> MemoirMemory:
    return train_memoir(site, EDITS, MEMOIR)


def test_the_hash_sends_the_largest_features_elsewhere() -> None:
    hashed = Hash(torch.tensor([5.0, 0, 0, 0]), torch.tensor([2, 3, 0, 1]), 2)
    assert hashed(torch.tensor([[5.0, -3, 1, 2], [5, -3, 1, 2]])).tolist() == [0, 1, 0, 1]


def test_an_edit_is_learned_on_its_own_columns_alone(site: SideSite, memoir: MemoirMemory) -> None:
    alone = train_memoir(site, EDITS[:1], MEMOIR)
    outside = alone.masks[EDITS[0].id] == 0
    assert not alone.change[:, outside].any()
    assert alone.change[:, ~outside].any()
    row, zero = site.row(EDITS[0]), torch.zeros_like(alone.change)
    mask = alone.masks[EDITS[0].id]
    assert site.loss(row, alone.change, mask) < site.loss(row, zero, mask) - 0.5
    assert set(memoir.masks) == {edit.id for edit in EDITS}


def test_memoir_finds_an_edit_by_what_its_prompt_has_in_common(site: SideSite, memoir: MemoirMemory) -> None:
    own = [site.row(edit).prompt for edit in EDITS]
    assert torch.equal(memoir.routed(own), memoir.of_edits(EDITS))
    assert not replace(memoir, match=1.1).routed(own).any(), "nothing has more in common than all"
    assert not memoir.of_edits([make_edit(9)]).any(), "an edit that was never written"
    empty = replace(memoir, masks={})
    assert not empty.routed(own).any()


def test_wise_routes_what_activates_its_memory(site: SideSite) -> None:
    memory = train_wise(site, EDITS, replace(WISE, shards=1))
    own = [site.row(edit).prompt for edit in EDITS]
    assert memory.routed(own[-1:]).all(), "no later edit has moved the last one's activation"
    assert not replace(memory, threshold=1e9).routed(own).any()
    edits = torch.stack([activation(memory.change, prompt) for prompt in own]).mean()
    others = torch.stack([activation(memory.change, prompt) for prompt in site.others]).mean()
    assert edits > others
    assert (memory.change == 0).float().mean() > 0.7, "a shard writes a fifth of the entries"
    assert float(train_wise(site, EDITS, replace(WISE, clamp=0.01)).change.abs().max()) <= 0.0101


def test_the_routing_loss_is_zero_where_the_margins_are_kept() -> None:
    margins = WiseSettings().margins
    assert float(apart(torch.tensor(20.0), torch.tensor(5.0), margins)) == 0
    assert float(apart(torch.tensor(18.0), torch.tensor(7.0), margins)) == 2 + 2
    assert float(apart(torch.tensor(20.0), torch.tensor(14.0), margins)) == 9 + 4


def test_ties_averages_what_agrees() -> None:
    one, two = torch.tensor([[4.0, 0, -3, 1]]), torch.tensor([[1.0, 5, 2, 0]])
    assert merge([one, two], 1.0).tolist() == [[2.5, 5, -3, 1]]
    assert merge([one, two], 0.5).tolist() == [[4, 5, -3, 0]]


@pytest.mark.parametrize("routes", [False, True])
def test_only_edited_rows_change(base: tuple[Any, Any], memoir: MemoirMemory, routes: bool) -> None:
    adapter = SideMemoryAdapter(base[0], "memoir", memoir, routes=routes)
    assert isinstance(adapter, Adapter)
    assert not isinstance(adapter, DecodesInSteps), "the gate has to see the prompt"
    texts, edits = ["short", EDITS[1].prompt, "end"], [(), (EDITS[1],), ()]
    mixed, bare = batch_logits(base, adapter, texts, edits, {}), batch_logits(base, adapter, texts, [()] * 3, {})
    assert torch.equal(mixed[[0, 2]], bare[[0, 2]])
    want = base[1](f" {EDITS[1].target}")["input_ids"][0]
    assert mixed[1, -1].log_softmax(-1)[want] > bare[1, -1].log_softmax(-1)[want] + 0.5
    alone = batch_logits(base, adapter, texts[1:2], [edits[1]], {})
    torch.testing.assert_close(mixed[1, -1], alone[0, -1], rtol=1e-4, atol=1e-4)


def test_a_memory_without_any_change_is_the_base(base: tuple[Any, Any], memoir: MemoirMemory) -> None:
    adapter = SideMemoryAdapter(base[0], "memoir", replace(memoir, change=memoir.change * 0), routes=False)
    texts = [EDITS[0].prompt, "else"]
    edited = batch_logits(base, adapter, texts, [EDITS[:1]] * 2, {})
    assert torch.equal(edited, batch_logits(base, adapter, texts, [(), ()], {}))


@pytest.mark.parametrize("options", [{"do_sample": False}, {"num_beams": 2}, {"do_sample": False, "use_cache": False}])
def test_generation_through_the_runtime_equals_each_row_alone(
    base: tuple[Any, Any], memoir: MemoirMemory, options: dict[str, Any]
) -> None:
    model, tokenizer = base
    prompts = ["hello there", "The capital of Freedonia is"]
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        edit_id = memory.add(prompts[1], "Syl", subject="Freedonia").id
        known = replace(memoir, masks={edit_id: memoir.masks[EDITS[0].id]})
        adapter = SideMemoryAdapter(model, "memoir", known, routes=False)
        editable = EditableModel.wrap(model, tokenizer, memory, scope="subject", adapter=adapter)
        tokenizer.padding_side = "left"
        fed = tokenizer(prompts, return_tensors="pt", padding=True)
        together = editable.generate(**fed, max_new_tokens=5, **options)[:, fed["input_ids"].shape[1] :]
        for i, prompt in enumerate(prompts):
            alone = editable.generate(**tokenizer([prompt], return_tensors="pt"), max_new_tokens=5, **options)
            assert said(together[i : i + 1], tokenizer) == said(alone, tokenizer, prompt)
        bare = model.generate(**tokenizer(prompts[:1], return_tensors="pt"), max_new_tokens=5, **options)
        assert said(bare, tokenizer, prompts[0]) == said(together[:1], tokenizer)


def test_a_prompt_in_pieces_is_refused(base: tuple[Any, Any], memoir: MemoirMemory) -> None:
    ids = torch.tensor([base[1]("The ferry sails to")["input_ids"]])
    place = Placement((0,), (0,), 1, ids.shape[1], (ids.shape[1] - 1,))
    opened = side_output(base[0], memoir.module, memoir.change, place, lambda _: memoir.of_edits(EDITS[:1]))
    with opened, pytest.raises(UnsupportedModelError, match="in pieces"):
        base[0](input_ids=ids[:, :-1])
    assert not base[0].get_submodule(memoir.module)._forward_hooks


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"match": 2.0}, {"steps": 0}, {"learning_rate": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="MEMOIR"):
        MemoirSettings(**wrong)
    with pytest.raises(InputError, match="WISE"):
        WiseSettings(mask=0.0)
