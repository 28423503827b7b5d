import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from memedit.models import check_model
from support.tiny import CHATML, FAMILIES, tiny_model, tiny_tokenizer
from support.tiny_tokenizers import FAMILY_TOKENIZERS


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_works_with_the_families_we_know(family):
    model = tiny_model(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = check_model(model, tiny_tokenizer())
    assert all(report.works.values()), report.notes
    assert report.usable
    assert report.consolidation_layers == (0, 1, 2)
    assert model.get_submodule(report.mlp_down.format(1)) is not None
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    json.dumps(asdict(report))


SHAPES = {
    "llama3": "llama", "qwen2.5": "qwen2", "qwen3": "qwen3", "gemma": "gemma3", "mistral": "mistral", "phi2": "phi",
    "phi3": "llama", "gpt2": "gpt2",
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_families_work_with_the_tokenizers_that_they_come_with(shape):
    model, tokenizer = tiny_model(SHAPES[shape]), FAMILY_TOKENIZERS[shape]()
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.chat_template = CHATML
    report = check_model(model, tokenizer)
    assert all(report.works.values()), report.notes
    assert "none of" in report.notes["edit text stays text"]


def test_what_does_not_work_is_said_with_its_reason():
    report = check_model(tiny_model("gpt2"), tiny_tokenizer(chat=False))
    assert not report.works["chat template"]
    assert "no chat template" in report.notes["chat template"]
    assert report.usable


def test_a_model_that_ignores_the_mask_is_found_out():
    model = tiny_model("gpt2")
    forward = model.forward
    model.forward = lambda **kwargs: forward(**{**kwargs, "attention_mask": None, "position_ids": None})
    report = check_model(model, tiny_tokenizer())
    assert not report.works["left padding"]
    assert "batches of one" in report.notes["left padding"]


def test_a_layer_without_a_down_projection_cannot_be_consolidated():
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.mlp = nn.Identity()
    report = check_model(model, tiny_tokenizer())
    assert not report.works["consolidation"]
    assert report.mlp_down is None
    assert report.consolidation_layers == ()
