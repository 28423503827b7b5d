"""The reader on tiny models: files, refusals, and rows that keep to themselves."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from memedit.adapters.base import Adapter, AdapterBatch, Row
from memedit.adapters.reader.adapter import ReaderAdapter, find_shipped
from memedit.adapters.reader.weights import RECORD, SAMPLE, WEIGHTS, load_reader
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.models.hooks import low_rank_rows
from memedit.types import Edit, EditKind, EditState
from support.readers import write_reader
from support.tiny import tiny_model, tiny_tokenizer

FAMILIES = ["llama", "gpt2", "gemma3"]


def edit(prompt: str = "The mill is run by", target: str = "Ada") -> Edit:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Edit(
        "e1", "default", prompt, target, None, (), None, EditKind.FACT, {}, None, now, None, None, None, 1,
        EditState.ACTIVE, "hash",
    )  # fmt: skip


@pytest.fixture(params=FAMILIES)
def trained(request: pytest.FixtureRequest, tmp_path: Path):
    model, tokenizer = tiny_model(request.param), tiny_tokenizer()
    write_reader(tmp_path, model, tokenizer)
    return model, tokenizer, tmp_path


def test_it_is_an_adapter(trained) -> None:
    model, tokenizer, folder = trained
    reader = ReaderAdapter(model, tokenizer, weights=folder)
    assert isinstance(reader, Adapter)
    assert (reader.name, reader.model(), reader.prepare([edit()])) == ("reader", None, {})


def test_peft_loads_the_same_reader(trained) -> None:
    peft = pytest.importorskip("peft")
    model, tokenizer, folder = trained
    ids = torch.tensor([tokenizer("The mill is run by")["input_ids"]])
    reader = ReaderAdapter(model, tokenizer, weights=folder)
    with torch.no_grad(), low_rank_rows(model, reader._groups, rows=[0], batch=1):
        ours = model(input_ids=ids).logits
    with torch.no_grad():
        bare = model(input_ids=ids).logits
        theirs = peft.PeftModel.from_pretrained(model, folder).eval()(input_ids=ids).logits
    assert not torch.allclose(ours, bare, atol=1e-2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_mixed_batch_equals_every_row_alone(trained) -> None:
    model, tokenizer, folder = trained
    reader = ReaderAdapter(model, tokenizer, weights=folder)
    texts = ["Once upon a time", "The mill's boss is", "Two and two"]
    edits: list[tuple[Edit, ...]] = [(), (edit(),), ()]
    rows = [Row(tuple(tokenizer(text)["input_ids"]), text) for text in texts]
    rows = [reader.rewrite(row, e, {}) if e else row for row, e in zip(rows, edits, strict=True)]
    width = max(len(row.ids) for row in rows)
    pad = tuple(width - len(row.ids) for row in rows)
    ids = torch.tensor([[tokenizer.pad_token_id] * p + list(row.ids) for p, row in zip(pad, rows, strict=True)])
    mask = torch.tensor([[0] * p + [1] * len(row.ids) for p, row in zip(pad, rows, strict=True)])
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    with reader.active(AdapterBatch(tuple(rows), tuple(edits), pad), {}):
        mixed = model.generate(ids, attention_mask=mask, **options)[:, width:]
    for number, row in enumerate(rows):
        alone_ids = torch.tensor([row.ids])
        batch = AdapterBatch((row,), (edits[number],), (0,))
        with reader.active(batch, {}):
            alone = model.generate(alone_ids, attention_mask=torch.ones_like(alone_ids), **options)
        said = alone[0, len(row.ids) :].tolist()
        assert mixed[number].tolist()[: len(said)] == said
    with torch.no_grad():
        bare = model(input_ids=ids, attention_mask=mask).logits
        with reader.active(AdapterBatch(tuple(rows), tuple(edits), pad), {}):
            hooked = model(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(hooked[[0, 2]], bare[[0, 2]])
    assert not torch.allclose(hooked[1, -1], bare[1, -1], atol=1e-3)


def test_the_same_base_in_another_dtype_is_the_same_base(trained) -> None:
    model, tokenizer, folder = trained
    assert load_reader(folder, model.to(torch.bfloat16), tokenizer).terms


def test_other_bases_tokenizers_and_layouts_are_refused_with_the_reason(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    write_reader(tmp_path, model, tokenizer)
    with pytest.raises(FingerprintMismatchError, match="weights differ"):
        load_reader(tmp_path, tiny_model("llama", seed=1), tokenizer)
    with pytest.raises(FingerprintMismatchError, match="config"):
        load_reader(tmp_path, tiny_model("qwen2"), tokenizer)
    with pytest.raises(FingerprintMismatchError, match="tokenizer"):
        load_reader(tmp_path, model, tiny_tokenizer(chat=False))
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "layout": 999}))
    with pytest.raises(FingerprintMismatchError, match="layout is version 999"):
        load_reader(tmp_path, model, tokenizer)


def test_a_finely_tuned_base_is_another_base(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    write_reader(tmp_path, model, tokenizer)
    with torch.no_grad():
        model.get_submodule("model.layers.2.mlp.down_proj").weight.mul_(1.03)
    with pytest.raises(FingerprintMismatchError, match="down_proj"):
        load_reader(tmp_path, model, tokenizer)


def test_absent_and_damaged_readers_are_typed_errors(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    with pytest.raises(ModelNotFoundError, match="no reader in"):
        load_reader(tmp_path / "nowhere", model, tokenizer)
    assert find_shipped(model, tokenizer) is None
    with pytest.raises(ModelNotFoundError, match="no reader ships"):
        ReaderAdapter(model, tokenizer)
    write_reader(tmp_path, model, tokenizer)
    half = (tmp_path / WEIGHTS).read_bytes()[:100]
    (tmp_path / WEIGHTS).write_bytes(half)
    with pytest.raises(InputError, match="cannot read"):
        load_reader(tmp_path, model, tokenizer)
    write_reader(tmp_path, model, tokenizer)
    sample = load_file(tmp_path / SAMPLE)
    sample.pop(next(iter(sample)))
    save_file(sample, tmp_path / SAMPLE)
    with pytest.raises(FingerprintMismatchError, match="other weights"):
        load_reader(tmp_path, model, tokenizer)
