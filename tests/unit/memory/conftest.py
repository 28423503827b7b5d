"""Fixtures of the memory's tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hashing_encoder import HashingEncoder

from memedit.memory import EditMemory


@pytest.fixture(scope="session")
def encoder() -> HashingEncoder:
    """An encoder without a neural network: texts that share words are near each other."""
    return HashingEncoder()


@pytest.fixture
def memory(encoder: HashingEncoder) -> Iterator[EditMemory]:
    """An empty memory without a file."""
    with EditMemory(":memory:", encoder=encoder) as found:
        yield found
