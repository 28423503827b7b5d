"""Fixtures of the scope tests."""

import pytest

from support.scope_bench import Bench, HashedWords


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def encoder() -> HashedWords:
    return HashedWords()
