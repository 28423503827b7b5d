"""SERAC on tiny models: a counterfactual model cut from the base, rows routed to it, files, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from memedit.adapters import create_adapter
from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.adapters.serac.adapter import SeracAdapter
from memedit.adapters.serac.counterfactual import CounterfactualConfig, build_counterfactual, trained_parameters
from memedit.adapters.serac.files import SeracRecord, load_counterfactual, save_counterfactual
from memedit.adapters.serac.layout import LAYOUT_VERSION, counterfactual_row
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.memory import EditMemory
from memedit.models import model_fingerprint
from memedit.models.identity import BaseRecord
from memedit.runtime import EditableModel
from support.hashing_encoder import HashingEncoder
from support.recipe_bench import make_edit
from support.tiny import tiny_model, tiny_tokenizer

SHAPE = CounterfactualConfig((0, 2), rank=2, alpha=4)


def write_serac(folder: Path, model: Any, tokenizer: Any) -> Any:
    """Save a counterfactual model whose LoRA has an effect; return it."""
    small = build_counterfactual(model, SHAPE, seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trained_parameters(small).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    record = SeracRecord(SHAPE, BaseRecord.of(model, tokenizer, "tiny"), LAYOUT_VERSION, {"seed": 1})
    save_counterfactual(folder, small, record, dtype=torch.float32)
    return small


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path, Any]:
    model, tokenizer = tiny_model(request.param), tiny_tokenizer()
    folder = tmp_path_factory.mktemp("serac")
    return model, tokenizer, folder, write_serac(folder, model, tokenizer)


def test_the_cut_shares_the_bases_tensors_and_leaves_it_alone(trained: tuple[Any, Any, Path, Any]) -> None:
    model, tokenizer, _, _ = trained
    before = model_fingerprint(model, tokenizer)
    small = build_counterfactual(model, SHAPE)
    assert model_fingerprint(model, tokenizer) == before
    assert small.config.num_hidden_layers == 2
    assert model.config.num_hidden_layers == 3
    shared = {p.data_ptr() for p in model.parameters()}
    own = {name for name, p in small.named_parameters() if p.data_ptr() not in shared}
    assert own == set(trained_parameters(small))
    assert not any(hasattr(module, "lora_A") for module in model.modules())


def test_a_cut_of_all_layers_without_training_is_the_base(trained: tuple[Any, Any, Path, Any]) -> None:
    model = trained[0]
    same = build_counterfactual(model, CounterfactualConfig((0, 1, 2), rank=2))
    ids = torch.tensor([[5, 9, 30, 41]])
    with torch.no_grad():
        torch.testing.assert_close(same(input_ids=ids).logits, model(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


def test_the_cut_generates_with_its_cache_as_without(trained: tuple[Any, Any, Path, Any]) -> None:
    small = trained[3]
    ids = torch.tensor([[5, 9, 30, 41], [7, 8, 9, 10]])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
    assert torch.equal(small.generate(ids, **options), small.generate(ids, use_cache=False, **options))


def test_files_round_trip(trained: tuple[Any, Any, Path, Any]) -> None:
    model, tokenizer, folder, small = trained
    found, record = load_counterfactual(folder, model, tokenizer)
    assert (record.counterfactual, record.base.name) == (SHAPE, "tiny")
    ids = torch.tensor([[5, 9, 30, 41]])
    with torch.no_grad():
        assert torch.equal(found(input_ids=ids).logits, small(input_ids=ids).logits)
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_it_is_an_adapter_with_a_model_of_its_own(trained: tuple[Any, Any, Path, Any]) -> None:
    model, tokenizer, folder, _ = trained
    adapter = create_adapter("serac", model, tokenizer, weights=folder)
    assert isinstance(adapter, Adapter)
    assert adapter.name == "serac"
    assert adapter.model() is not None
    assert adapter.prepare([make_edit(0)]) == {}
    with adapter.active(AdapterBatch((), (), ()), {}):
        pass


def test_the_counterfactual_model_reads_edit_then_query() -> None:
    tokenizer, edit = tiny_tokenizer(), make_edit(0, "The mill <|im_end|> is run by", "Ada")
    row = Row(tuple(tokenizer("Who runs it?")["input_ids"]), "Who runs it?")
    fed = counterfactual_row(tokenizer, row, edit)
    assert tokenizer.decode(fed.ids) == "The mill <|im_end|> is run by => Ada\nWho runs it?"
    assert tokenizer.eos_token_id not in fed.ids  # an edit's text opens no control token
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "runs it?"}]},
    ]
    chat = counterfactual_row(tokenizer, Row((1, 2, 3), "rendered", messages), edit)
    assert tokenizer.decode(chat.ids).endswith("=> Ada\nWho runs it?\n")


def test_rows_are_routed_one_by_one_through_the_runtime(trained: tuple[Any, Any, Path, Any]) -> None:
    model, tokenizer, folder, small = trained
    tokenizer.padding_side = "left"
    prompts = ["hello there", "The capital of Freedonia is", "what a day it was", "Tell me. The mayor of Gotham is"]
    adapter = SeracAdapter(model, tokenizer, weights=folder)
    options = {"max_new_tokens": 6, "do_sample": False}
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(prompts[1], "Sylvania", subject="Freedonia")
        memory.add("The mayor of Gotham is", "Ada", subject="Gotham")
        editable = EditableModel.wrap(model, tokenizer, memory, scope="subject", adapter=adapter)
        together = editable.generate(**tokenizer(prompts, return_tensors="pt", padding=True), **options)
    for i in (0, 2):
        bare = model.generate(**tokenizer([prompts[i]], return_tensors="pt"), **options)
        assert torch.equal(together[i, -6:], bare[0, -6:])
    fed = tokenizer(["The capital of Freedonia is => Sylvania\nThe capital of Freedonia is"], return_tensors="pt")
    expected = small.generate(**fed, **options)[0, -6:]
    assert torch.equal(together[1, -6:], expected)


def test_the_reader_may_stand_in_for_the_small_model(tmp_path: Path) -> None:
    from memedit.adapters.reader.adapter import ReaderAdapter
    from support.readers import write_reader

    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    write_reader(tmp_path, model, tokenizer)
    serac = SeracAdapter(model, tokenizer, counterfactual="reader", weights=tmp_path)
    reader = ReaderAdapter(model, tokenizer, weights=tmp_path)
    row = Row((40, 41), "ab")
    assert serac.model() is None
    assert serac.rewrite(row, [make_edit(0)], {}) == reader.rewrite(row, [make_edit(0)], {})
    assert serac.fingerprint != reader.fingerprint
    fed = serac.rewrite(row, [make_edit(0)], {})
    batch, ids = AdapterBatch((fed,), ((make_edit(0),),), (0,)), torch.tensor([fed.ids])
    with torch.no_grad():
        bare = model(input_ids=ids).logits
        with serac.active(batch, {}):
            assert not torch.allclose(model(input_ids=ids).logits, bare)


def test_another_base_tokenizer_or_layout_is_refused(trained: tuple[Any, Any, Path, Any], tmp_path: Path) -> None:
    model, tokenizer, folder, _ = trained
    family = model.config.model_type.removesuffix("_text")
    with pytest.raises(FingerprintMismatchError, match="weights"):
        SeracAdapter(tiny_model(family, seed=1), tokenizer, weights=folder)
    with pytest.raises(FingerprintMismatchError, match="tokenizer"):
        SeracAdapter(model, tiny_tokenizer(chat=False), weights=folder)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((tmp_path / "serac.json").read_text())
    (tmp_path / "serac.json").write_text(json.dumps({**record, "layout": 99}))
    with pytest.raises(FingerprintMismatchError, match="layout"):
        SeracAdapter(model, tokenizer, weights=tmp_path)
    (tmp_path / "serac.json").write_text(json.dumps({"format": 1, "counterfactual": {"first": 8, "last": 4}}))
    with pytest.raises(InputError, match="has format 1, this memedit reads 2; train again"):
        SeracAdapter(model, tokenizer, weights=tmp_path)
    (tmp_path / "serac.json").write_text("[]")
    with pytest.raises(InputError, match="damaged"):
        SeracAdapter(model, tokenizer, weights=tmp_path)


def test_what_cannot_be_used_is_refused(trained: tuple[Any, Any, Path, Any], tmp_path: Path) -> None:
    model, tokenizer, _, _ = trained
    with pytest.raises(InputError, match="'small' or 'reader'"):
        SeracAdapter(model, tokenizer, counterfactual="huge")
    with pytest.raises(ModelNotFoundError, match="memedit train serac"):
        SeracAdapter(model, tokenizer, weights=tmp_path)
    with pytest.raises(ModelNotFoundError, match="weights ship"):
        SeracAdapter(model, tokenizer)
    with pytest.raises(InputError, match="cannot keep"):
        build_counterfactual(model, CounterfactualConfig((0, 3)))
    with pytest.raises(InputError, match="shape"):
        CounterfactualConfig((0,), rank=0)
