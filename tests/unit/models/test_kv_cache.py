"""The key-value cache goes by the name that the forward pass has for it."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from memedit.models.kv_cache import NAMES, cache_argument, cache_name
from support.tiny import tiny_model


class Takes:
    """A model whose forward pass takes its cache under an older name, or not at all."""

    def __init__(self, *, older: bool) -> None:
        self.forward = self._older if older else self._none

    def _older(self, input_ids: Any, past_key_values: Any = None) -> None: ...

    def _none(self, input_ids: Any) -> None: ...


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_what_it_is_called_takes_and_holds_the_cache(family: str) -> None:
    model, cache = tiny_model(family), DynamicCache()
    name = cache_name(model)
    assert name in NAMES
    with torch.no_grad():
        out = model(torch.tensor([[5, 6, 7]]), use_cache=True, **cache_argument(model, cache))
    assert cache.get_seq_length() == 3
    assert out[name].get_seq_length() == 3


def test_older_names_and_none() -> None:
    assert cache_name(Takes(older=True)) == "past_key_values"
    assert cache_argument(Takes(older=True), 1) == {"past_key_values": 1}
    assert cache_name(Takes(older=False)) is None
