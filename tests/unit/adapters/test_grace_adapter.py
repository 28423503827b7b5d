"""GRACE on tiny models: the codebook's rules, trained values, rows apart, its own router."""

from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from memedit.adapters import create_adapter
from memedit.adapters.base import Adapter, DecodesInSteps, MixesTargets
from memedit.adapters.grace.adapter import GraceAdapter
from memedit.adapters.grace.codebook import Codebook, Entry
from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from support.adapter_bench import batch_logits, said
from support.hashing_encoder import HashingEncoder
from support.recipe_bench import make_edit
from support.tiny import tiny_model, tiny_tokenizer

EDITS = [make_edit(0), make_edit(1, "The ferry sails to", "Oss"), make_edit(2, "Ada was born in", "Bu")]


def entry(x: float, label: str) -> Entry:
    return Entry(torch.tensor([x, 0.0]), torch.tensor([x]), label)


def test_far_keys_stand_with_their_own_radius() -> None:
    book = Codebook.of([entry(0, "a"), entry(3, "b")], 1.0)
    assert book.radii.tolist() == [1.0, 1.0]
    found, nearest = book.find(torch.tensor([[0.9, 0.0], [1.5, 0.0], [3.0, 1.0]]))
    assert (found.tolist(), nearest[[0, 2]].tolist()) == ([True, False, True], [0, 1])


def test_a_near_key_of_the_same_label_widens_the_radius() -> None:
    book = Codebook.of([entry(0, "a"), entry(1.5, "a")], 1.0)
    assert (len(book.keys), book.radii.tolist()) == (1, [1.5])
    assert Codebook.of([entry(0, "a"), entry(0.5, "a")], 1.0).radii.tolist() == [1.0]


def test_a_near_key_of_another_label_splits_the_distance() -> None:
    book = Codebook.of([entry(0, "a"), entry(1.5, "b")], 1.0)
    torch.testing.assert_close(book.radii, torch.tensor([0.75, 0.75]), atol=2e-5, rtol=0)
    found, nearest = book.find(torch.tensor([[0.7, 0.0], [0.8, 0.0]]))
    assert (found.tolist(), nearest.tolist()) == ([True, True], [0, 1])


def test_an_empty_codebook_holds_nothing() -> None:
    found, _ = Codebook.of([], 1.0).find(torch.zeros(3, 2))
    assert not found.any()
    with pytest.raises(InputError, match="epsilon"):
        Codebook.of([], 0.0)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return tiny_model(request.param), tiny_tokenizer()


@pytest.fixture(scope="module")
def adapter(base: tuple[Any, Any]) -> GraceAdapter:
    return GraceAdapter(*base, layer=1)


@pytest.fixture(scope="module")
def blobs(adapter: GraceAdapter) -> dict[str, bytes]:
    return dict(adapter.prepare(EDITS))


def test_it_is_an_adapter_found_by_name(base: tuple[Any, Any], adapter: GraceAdapter) -> None:
    assert isinstance(adapter, Adapter)
    assert isinstance(adapter, DecodesInSteps)
    assert not isinstance(adapter, MixesTargets), "published methods decode alone"
    assert create_adapter("grace", *base, layer=1).fingerprint == adapter.fingerprint
    assert create_adapter("grace", *base, layer=2).fingerprint != adapter.fingerprint
    with pytest.raises(InputError):
        create_adapter("grace", *base, steps=0)


def test_a_trained_value_makes_the_target_likely(base: tuple[Any, Any], adapter: GraceAdapter, blobs: Any) -> None:
    _, tokenizer = base
    for edit in EDITS:
        want = tokenizer(f" {edit.target}")["input_ids"][0]
        bare, edited = (
            batch_logits(base, adapter, [edit.prompt], [fired], blobs)[0, -1].log_softmax(-1)[want]
            for fired in ((), (edit,))
        )
        assert edited > bare + 0.5


def test_only_the_last_token_of_edited_rows_changes(base: tuple[Any, Any], adapter: GraceAdapter, blobs: Any) -> None:
    texts, edits = ["short", "Who runs the mill?", "end"], [(), (EDITS[0], EDITS[1]), ()]
    mixed, bare = batch_logits(base, adapter, texts, edits, blobs), batch_logits(base, adapter, texts, [()] * 3, blobs)
    assert torch.equal(mixed[[0, 2]], bare[[0, 2]])
    torch.testing.assert_close(mixed[1, :-1], bare[1, :-1])
    assert (mixed[1, -1] - bare[1, -1]).abs().max() > 0.1
    alone = batch_logits(base, adapter, texts[1:2], [(EDITS[0],)], blobs)
    torch.testing.assert_close(mixed[1, -1], alone[0, -1], rtol=1e-4, atol=1e-4)


def test_its_own_router_goes_by_the_key_whatever_fires(
    base: tuple[Any, Any], adapter: GraceAdapter, blobs: Any
) -> None:
    book = Codebook.of(adapter.entries(EDITS, blobs), 0.05)
    routed = GraceAdapter(*base, layer=1, codebook=book)
    other = (make_edit(9),)
    texts = [EDITS[1].prompt, "something else"]
    found, bare = batch_logits(base, routed, texts, [other, other], {}), batch_logits(base, routed, texts, [(), ()], {})
    torch.testing.assert_close(
        found[0, -1], batch_logits(base, adapter, texts[:1], [(EDITS[1],)], blobs)[0, -1], rtol=1e-3, atol=1e-3
    )
    assert torch.equal(found[1], bare[1])
    empty = GraceAdapter(*base, layer=1, codebook=Codebook.of([], 1.0))
    assert torch.equal(batch_logits(base, empty, texts, [other, other], {}), bare)


@pytest.mark.parametrize("options", [{"do_sample": False}, {"num_beams": 2}, {"do_sample": False, "use_cache": False}])
def test_generation_through_the_runtime_equals_each_row_alone(
    base: tuple[Any, Any], adapter: GraceAdapter, options: dict[str, Any]
) -> None:
    model, tokenizer = base
    prompts = ["hello there", "The capital of Freedonia is"]
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(prompts[1], "Syl", subject="Freedonia")
        editable = EditableModel.wrap(model, tokenizer, memory, scope="subject", adapter=adapter)
        assert editable.prepare() == 1
        tokenizer.padding_side = "left"
        fed = tokenizer(prompts, return_tensors="pt", padding=True)
        together = editable.generate(**fed, max_new_tokens=5, **options)[:, fed["input_ids"].shape[1] :]
        for i, prompt in enumerate(prompts):
            alone = editable.generate(**tokenizer([prompt], return_tensors="pt"), max_new_tokens=5, **options)
            assert said(together[i : i + 1], tokenizer) == said(alone, tokenizer, prompt)
        bare = model.generate(**tokenizer(prompts[:1], return_tensors="pt"), max_new_tokens=5, **options)
        assert said(bare, tokenizer, prompts[0]) == said(together[:1], tokenizer)


@pytest.mark.parametrize("damage", [b"", b"no safetensors", save({"key": torch.zeros(2), "value": torch.zeros(2)})])
def test_a_damaged_artefact_is_named(base: tuple[Any, Any], adapter: GraceAdapter, damage: bytes) -> None:
    with pytest.raises(InputError, match="edit e0"):
        batch_logits(base, adapter, ["x"], [(EDITS[0],)], {"e0": damage})


def test_artefacts_do_not_depend_on_the_batch(adapter: GraceAdapter, blobs: Any) -> None:
    alone, together = load(adapter.prepare([EDITS[1]])["e1"]), load(blobs["e1"])
    torch.testing.assert_close(alone["key"], together["key"], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(alone["value"], together["value"], rtol=0.1, atol=0.1)
