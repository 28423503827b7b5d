"""A tiny model with two facts in memory."""

from collections.abc import Iterator
from typing import Any

import pytest

from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from support.facts import CAPITAL, MAYOR
from support.hashing_encoder import HashingEncoder
from support.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    found = tiny_tokenizer()
    found.padding_side = "left"
    return found


@pytest.fixture(scope="session")
def llama() -> Any:
    return tiny_model("llama")


@pytest.fixture
def facts() -> Iterator[EditMemory]:
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(CAPITAL, "Sylvania City", subject="Freedonia")
        memory.add(MAYOR, "Ada Quill", subject="Gotham")
        yield memory


@pytest.fixture
def editable(llama: Any, tokenizer: Any, facts: EditMemory) -> EditableModel:
    return EditableModel.wrap(llama, tokenizer, facts, scope="subject", adapter="in_context")
