"""Fixtures of the evaluation's tests."""

import pytest

from support.evaluation_cases import CountingAnswerer, ScriptedAnswerer, written_cases


@pytest.fixture
def cases():
    """Six cases of facts written for these tests."""
    return written_cases()


@pytest.fixture
def scripted() -> ScriptedAnswerer:
    """An answerer that says what it is told to."""
    return ScriptedAnswerer({})


@pytest.fixture
def tiny_answerer() -> CountingAnswerer:
    """A tiny random model behind the protocol, which counts its calls."""
    return CountingAnswerer()
