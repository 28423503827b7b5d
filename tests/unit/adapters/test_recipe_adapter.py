"""RECIPE on tiny models: prompts before edited rows, other rows untouched, files, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from memedit.adapters import create_adapter
from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.adapters.recipe.adapter import RecipeAdapter
from memedit.adapters.recipe.prompts import GAIN, PromptConfig, PromptHead, Spelling, embedding_moments
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from support.hashing_encoder import HashingEncoder
from support.recipe_bench import TOKENS, make_edit, write_recipe
from support.tiny import tiny_model, tiny_tokenizer

EDITS = [make_edit(0), make_edit(1, "The ferry sails to", "Brightwater"), make_edit(2, "Ada was born in", "Oss")]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    model, tokenizer = tiny_model(request.param), tiny_tokenizer()
    folder = tmp_path_factory.mktemp("recipe")
    write_recipe(folder, model, tokenizer)
    return model, tokenizer, folder


@pytest.fixture(scope="module")
def adapter(trained: tuple[Any, Any, Path]) -> RecipeAdapter:
    model, tokenizer, folder = trained
    return RecipeAdapter(model, tokenizer, weights=folder)


def rows_of(tokenizer: Any, texts: list[str]) -> list[Row]:
    return [Row(tuple(tokenizer(text)["input_ids"]), text) for text in texts]


def padded(tokenizer: Any, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
    length = max(len(row.ids) for row in rows)
    pads = tuple(length - len(row.ids) for row in rows)
    ids = torch.tensor([[tokenizer.pad_token_id] * pad + list(row.ids) for pad, row in zip(pads, rows, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * len(row.ids) for pad, row in zip(pads, rows, strict=True)])
    return ids, mask, pads


def positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(1) - 1).clamp_min(0)


def run(model: Any, adapter: RecipeAdapter, tokenizer: Any, rows: list[Row], edits: list[tuple[Any, ...]]) -> Any:
    """Last-position logits of a batch of already rewritten rows."""
    ids, mask, pads = padded(tokenizer, rows)
    artefacts = adapter.prepare(EDITS)
    with torch.no_grad(), adapter.active(AdapterBatch(tuple(rows), tuple(edits), pads), artefacts):
        return model(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits[:, -1]


def test_it_is_an_adapter_found_by_name(trained: tuple[Any, Any, Path], adapter: RecipeAdapter) -> None:
    model, tokenizer, folder = trained
    assert isinstance(adapter, Adapter)
    assert (adapter.name, adapter.model()) == ("recipe", None)
    assert create_adapter("recipe", model, tokenizer, weights=folder).fingerprint == adapter.fingerprint


def test_prompts_are_float16_blobs_that_do_not_depend_on_the_batch(adapter: RecipeAdapter) -> None:
    together = adapter.prepare(EDITS)
    assert set(together) == {"e0", "e1", "e2"}
    prompts = {key: load(blob)["prompt"] for key, blob in together.items()}
    assert all(p.shape == (TOKENS, 32) and p.dtype == torch.float16 for p in prompts.values())
    assert not torch.equal(prompts["e0"], prompts["e1"])
    alone = load(adapter.prepare([EDITS[1]])["e1"])["prompt"]
    torch.testing.assert_close(alone, prompts["e1"], rtol=1e-3, atol=1e-3)


def test_untrained_prompts_are_the_targets_own_embeddings_enlarged(trained: tuple[Any, Any, Path]) -> None:
    model, tokenizer, _ = trained
    spelling = Spelling(model, tokenizer, TOKENS)
    head = PromptHead(PromptConfig(8, TOKENS, 32, 4), rms=spelling.rms, mean=embedding_moments(model)[1])
    with torch.no_grad():
        prompts = head(torch.randn(2, 8), spelling.of(["Ada", " the old mill by the river"]))
        ids = [
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" Ada", " the old mill by the river")
        ]
        ids = [(row + [tokenizer.eos_token_id] * TOKENS)[:TOKENS] for row in ids]
        expected = GAIN * model.get_input_embeddings()(torch.tensor(ids))
    torch.testing.assert_close(prompts, expected, rtol=1e-3, atol=1e-4)


def test_rewriting_puts_placeholders_in_front(adapter: RecipeAdapter) -> None:
    row = Row((40, 41, 42), "abc")
    fed = adapter.rewrite(row, EDITS[:2], {})
    assert (fed.ids[2 * TOKENS :], fed.text) == (row.ids, row.text)
    assert len(set(fed.ids[: 2 * TOKENS])) == 1


def test_an_edited_row_is_its_prompts_then_its_tokens(trained: tuple[Any, Any, Path], adapter: RecipeAdapter) -> None:
    model, tokenizer, _ = trained
    row = rows_of(tokenizer, ["Who runs the mill? It is"])[0]
    edits = (EDITS[1], EDITS[0])
    found = run(model, adapter, tokenizer, [adapter.rewrite(row, edits, {})], [edits])
    blobs = adapter.prepare(EDITS)
    prompts = torch.cat([load(blobs[edit.id])["prompt"].float() for edit in edits])
    with torch.no_grad():
        embedded = model.get_input_embeddings()(torch.tensor([row.ids]))
        expected = model(inputs_embeds=torch.cat([prompts.unsqueeze(0), embedded], 1)).logits[:, -1]
        bare = model(input_ids=torch.tensor([row.ids])).logits[:, -1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - bare).abs().max() > 0.1  # the effect exists


def test_rows_of_a_mixed_batch_equal_their_own_runs(trained: tuple[Any, Any, Path], adapter: RecipeAdapter) -> None:
    model, tokenizer, _ = trained
    plain = rows_of(tokenizer, ["short", "Who runs the mill?", "a much longer query about ferries", "end"])
    edits: list[tuple[Any, ...]] = [(), (EDITS[0],), (EDITS[1], EDITS[2]), ()]
    rows = [adapter.rewrite(r, e, {}) if e else r for r, e in zip(plain, edits, strict=True)]
    mixed = run(model, adapter, tokenizer, rows, edits)
    for i, row in enumerate(rows):
        alone = run(model, adapter, tokenizer, [row], [edits[i]])
        torch.testing.assert_close(mixed[i : i + 1], alone, rtol=1e-4, atol=1e-4)
    ids, mask, _ = padded(tokenizer, rows)
    with torch.no_grad():
        bare = model(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits[:, -1]
    torch.testing.assert_close(mixed[[0, 3]], bare[[0, 3]], rtol=0, atol=0)
    assert (mixed[[1, 2]] - bare[[1, 2]]).abs().amax(1).min() > 0.1


def test_nothing_stays_after_an_exception(trained: tuple[Any, Any, Path], adapter: RecipeAdapter) -> None:
    model, tokenizer, _ = trained
    row = adapter.rewrite(rows_of(tokenizer, ["x"])[0], EDITS[:1], {})
    ids = torch.tensor([row.ids])
    before = model(input_ids=ids).logits
    with pytest.raises(RuntimeError, match="stop"), adapter.active(AdapterBatch((row,), ((EDITS[0],),), (0,)), {}):
        raise RuntimeError("stop")
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_missing_artefact_is_prepared_and_a_damaged_one_refused(adapter: RecipeAdapter) -> None:
    row = adapter.rewrite(Row((40, 41), "ab"), EDITS[:1], {})
    batch = AdapterBatch((row,), ((EDITS[0],),), (0,))
    with adapter.active(batch, {}):
        pass
    with pytest.raises(InputError, match="damaged"):
        adapter.active(batch, {"e0": b"junk"})
    with pytest.raises(InputError, match="shape"):
        adapter.active(batch, {"e0": save({"prompt": torch.zeros(TOKENS, 5)})})
    with pytest.raises(InputError, match="shape None"):
        adapter.active(batch, {"e0": save({"other": torch.zeros(2)})})


def test_another_base_or_tokenizer_is_refused(trained: tuple[Any, Any, Path]) -> None:
    model, tokenizer, folder = trained
    with pytest.raises(FingerprintMismatchError, match="weights"):
        RecipeAdapter(tiny_model(model.config.model_type.removesuffix("_text"), seed=1), tokenizer, weights=folder)
    with pytest.raises(FingerprintMismatchError, match="tokenizer"):
        RecipeAdapter(model, tiny_tokenizer(chat=False), weights=folder)
    with pytest.raises(FingerprintMismatchError, match="config"):
        RecipeAdapter(tiny_model("qwen3"), tokenizer, weights=folder)


def test_the_same_base_in_another_dtype_is_accepted(trained: tuple[Any, Any, Path]) -> None:
    model, tokenizer, folder = trained
    family = model.config.model_type.removesuffix("_text")
    RecipeAdapter(tiny_model(family).to(torch.bfloat16), tokenizer, weights=folder)


def test_absent_and_damaged_networks_are_refused(trained: tuple[Any, Any, Path], tmp_path: Path) -> None:
    model, tokenizer, folder = trained
    with pytest.raises(ModelNotFoundError, match="memedit train recipe"):
        RecipeAdapter(model, tokenizer, weights=tmp_path)
    with pytest.raises(ModelNotFoundError, match="weights ship"):
        RecipeAdapter(model, tokenizer)
    for name in ("knowledge.json", "knowledge.safetensors", "prompts.safetensors", "recipe.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    record = json.loads((tmp_path / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({**record, "prompts": {"width": 16}}))
    with pytest.raises(InputError, match="damaged"):
        RecipeAdapter(model, tokenizer, weights=tmp_path)


@pytest.mark.parametrize(
    "options", [{"do_sample": False}, {"num_beams": 3, "num_return_sequences": 2}, {"do_sample": False, "use_cache": 0}]
)
def test_generation_through_the_runtime_equals_each_row_alone(
    trained: tuple[Any, Any, Path], adapter: RecipeAdapter, options: dict[str, Any]
) -> None:
    model, tokenizer, _ = trained
    prompts = ["hello there", "The capital of Freedonia is", "what a lovely long day", "The mayor of Gotham is"]
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(prompts[1], "Sylvania", subject="Freedonia")
        memory.add(prompts[3], "Ada", subject="Gotham")
        editable = EditableModel.wrap(model, tokenizer, memory, scope="subject", adapter=adapter)
        tokenizer.padding_side = "left"
        options = {
            "max_new_tokens": 6,
            "output_logits": False,
            **options,
            "use_cache": bool(options.get("use_cache", 1)),
        }
        together = editable.generate(**tokenizer(prompts, return_tensors="pt", padding=True), **options)
        repeats = len(together) // len(prompts)
        for i, prompt in enumerate(prompts):
            alone = editable.generate(**tokenizer([prompt], return_tensors="pt"), **options)
            assert torch.equal(together[i * repeats : (i + 1) * repeats, -6:], alone[:, -6:])
        bare = model.generate(**tokenizer([prompts[1]], return_tensors="pt"), **options)
        edited = editable.generate(**tokenizer([prompts[1]], return_tensors="pt"), **options)
        assert not torch.equal(bare, edited)
        ids = [edit.id for edit in memory.list()]
        assert editable.prepare() == 2
        assert len(memory.get_artefacts("recipe", adapter.fingerprint, ids)) == 2
