"""Fixtures of the memory's tests."""

from collections.abc import Iterator

import pytest

from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder


@pytest.fixture(scope="session")
def encoder() -> HashingEncoder:
    """An encoder without a neural network: texts that share words are near each other."""
    return HashingEncoder()


@pytest.fixture
def memory(encoder: HashingEncoder) -> Iterator[EditMemory]:
    """An empty memory without a file."""
    with EditMemory(":memory:", encoder=encoder) as found:
        yield found
