"""A base whose weights are quantised tensors of a class of their own, as torchao makes them."""

from typing import Any

import pytest
import torch
from torch import nn

from memedit.memory import EditMemory
from memedit.models import check_model, model_fingerprint
from memedit.models.identity import BaseRecord
from memedit.runtime import EditableModel
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer

CAPITAL = "The capital of Freedonia is"


class Eighths(torch.Tensor):
    """A matrix in 8 bits with a scale a row; it multiplies, and like torchao's it knows no views."""

    @staticmethod
    def __new__(cls, packed: torch.Tensor, scale: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, packed.shape, dtype=scale.dtype, device=packed.device)

    def __init__(self, packed: torch.Tensor, scale: torch.Tensor) -> None:
        self.packed, self.scale = packed, scale

    def dequantize(self) -> torch.Tensor:
        return self.packed.to(self.scale.dtype) * self.scale

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is nn.functional.linear:
            return nn.functional.linear(args[0], args[1].dequantize(), *args[2:])
        return super().__torch_function__(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return cls(args[0].packed, args[0].scale)
        raise NotImplementedError(f"no {func} on quantised weights")


def quantised(seed: int = 0) -> Any:
    model = tiny_model("llama", seed=seed)
    for layer in model.model.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                scale = module.weight.detach().abs().amax(1, keepdim=True) / 127
                packed = (module.weight.detach() / scale).round().to(torch.int8)
                module.weight = nn.Parameter(Eighths(packed, scale), requires_grad=False)
    return model


def test_all_but_consolidation_works_and_says_so():
    report = check_model(quantised(), tiny_tokenizer())
    assert [name for name, works in report.works.items() if not works] == ["consolidation"]
    assert "quantised (Eighths)" in report.notes["consolidation"]
    assert report.usable


def test_it_has_a_fingerprint_of_its_own():
    tokenizer = tiny_tokenizer()
    first = model_fingerprint(quantised(), tokenizer)
    assert first == model_fingerprint(quantised(), tokenizer)
    assert first != model_fingerprint(quantised(seed=1), tokenizer)
    assert first != model_fingerprint(tiny_model("llama"), tokenizer)
    BaseRecord.of(quantised(), tokenizer, "tiny").check(quantised(), tokenizer, "it")


@pytest.mark.parametrize("adapter", ["default", "in_context"])
def test_edits_hold_on_it(adapter):
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(CAPITAL, "Sylvania City", subject="Freedonia")
        editable = EditableModel.wrap(quantised(), tiny_tokenizer(), memory, scope="subject", adapter=adapter)
        (answer,) = editable.answer([CAPITAL], max_new_tokens=16, do_sample=False)
        assert answer.text == " Sylvania City"
