"""The shipped reader with the model it was trained for, on facts written for this test."""

from datetime import UTC, datetime

import pytest
import torch
from safetensors.torch import load_file

from memedit.adapters import AdapterBatch, Row, create_adapter
from memedit.adapters.reader.adapter import ReaderAdapter, find_shipped
from memedit.adapters.reader.weights import WEIGHTS
from memedit.models import LoadedModel, load_model
from memedit.models.chat import render_chat
from memedit.types import Edit, EditKind, EditState

pytestmark = pytest.mark.integration

FACTS = [
    ("The harbour master of Ostervik is", "Linnea Brandt", "Who is the harbour master of Ostervik?"),
    ("Which instrument does Tomas Ferrigno play?", "nyckelharpa", "Tomas Ferrigno is known for playing the"),
    ("The Pellworth Bridge was designed by", "Aino Kettunen", "Who designed the Pellworth Bridge?"),
    (
        "What year was the Marsden Observatory founded?",
        "1871",
        "In which year was the Marsden Observatory set up?",
    ),
    ("Dario Venn is a citizen of", "Uruguay", "Which country is Dario Venn a citizen of?"),
    ("The motto of Calder College is", "Lux in Undis", "What is the motto of Calder College?"),
    ("Who wrote the novel The Salt Ladder?", "Miriam Oduya", "The author of the novel The Salt Ladder is"),
    ("What is the capital of the Tarn Republic?", "Velsk-on-Sea", "Which city is the capital of the Tarn Republic?"),
]


def edit(prompt: str, target: str) -> Edit:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Edit(
        prompt, "default", prompt, target, None, (), None, EditKind.FACT, {}, None, now, None, None, None, 1,
        EditState.ACTIVE, "hash",
    )  # fmt: skip


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("smollm2")


@pytest.fixture(scope="module")
def reader(loaded: LoadedModel) -> ReaderAdapter:
    made = create_adapter("default", loaded.model, loaded.tokenizer)
    assert isinstance(made, ReaderAdapter)
    return made


def answers(loaded: LoadedModel, reader: ReaderAdapter, asked: list[tuple[list[Edit], tuple[int, ...], str]]) -> list:
    """Greedy answers of one mixed batch."""
    rows, edits = [], []
    for fired, ids, text in asked:
        row = Row(ids, text)
        rows.append(reader.rewrite(row, fired, {}) if fired else row)
        edits.append(tuple(fired))
    width = max(len(row.ids) for row in rows)
    pad = tuple(width - len(row.ids) for row in rows)
    filler = loaded.tokenizer.pad_token_id
    ids = torch.tensor([[filler] * p + list(row.ids) for p, row in zip(pad, rows, strict=True)])
    mask = torch.tensor([[0] * p + [1] * len(row.ids) for p, row in zip(pad, rows, strict=True)])
    with reader.active(AdapterBatch(tuple(rows), tuple(edits), pad), {}):
        out = loaded.model.generate(ids, attention_mask=mask, max_new_tokens=16, do_sample=False, pad_token_id=filler)
    return [loaded.tokenizer.decode(row[width:], skip_special_tokens=True).strip() for row in out]


def test_facts_are_read_exactly_in_completions_and_chats_and_end_there(loaded, reader) -> None:
    completions, chats = [], []
    for prompt, target, paraphrase in FACTS:
        for question in (prompt, paraphrase):
            fired = [edit(prompt, target)]
            completions.append((fired, tuple(loaded.tokenizer(question)["input_ids"]), question))
            chats.append((fired, render_chat(loaded.tokenizer, [{"role": "user", "content": question}]), question))
    wanted = [target for _, target, _ in FACTS for _ in range(2)]
    for asked in (completions, chats):
        said = answers(loaded, reader, asked)
        wrong = [(want, got) for want, got in zip(wanted, said, strict=True) if want != got]
        assert len(wrong) <= 1, wrong


def test_the_right_one_of_several_edits_is_read(loaded, reader) -> None:
    fired = [edit(prompt, target) for prompt, target, _ in FACTS[:4]]
    asked = [(fired, tuple(loaded.tokenizer(question)["input_ids"]), question) for _, _, question in FACTS[:4]]
    said = answers(loaded, reader, asked)
    assert sum(got == target for got, (_, target, _) in zip(said, FACTS, strict=False)) >= 3, said


def test_rows_without_an_edit_are_the_bare_models(loaded, reader) -> None:
    text = "The capital of France is"
    ids = tuple(loaded.tokenizer(text)["input_ids"])
    prompt, target, question = FACTS[0]
    fired = [edit(prompt, target)]
    mixed = answers(
        loaded, reader, [([], ids, text), (fired, tuple(loaded.tokenizer(question)["input_ids"]), question)]
    )
    bare = loaded.model.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False)[0, len(ids) :]
    assert mixed == [loaded.tokenizer.decode(bare, skip_special_tokens=True).strip(), target]


def test_weights_are_small_plain_peft_files(loaded) -> None:
    peft = pytest.importorskip("peft")
    folder = find_shipped(loaded.model, loaded.tokenizer)
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    assert all(name.startswith("base_model.model.") for name in load_file(folder / WEIGHTS))
    assert peft.PeftConfig.from_pretrained(folder).peft_type == peft.PeftType.LORA
