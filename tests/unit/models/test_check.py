import json
from dataclasses import asdict

import pytest
import torch
from tiny import FAMILIES, tiny_model, tiny_tokenizer
from torch import nn

from memedit.models import check_model


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
