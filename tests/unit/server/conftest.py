"""A real server over a tiny model, on a port of its own, for the tests of this folder."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from memedit.memory import EditMemory
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve
from support.tiny import tiny_model, tiny_tokenizer

_names = itertools.count()
_lock = threading.Lock()


@pytest.fixture(scope="session")
def tiny_llama() -> Any:
    return tiny_model("llama")


@pytest.fixture(scope="session")
def tiny_chat_tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def shared_server(tiny_llama: Any, tiny_chat_tokenizer: Any) -> Iterator[RunningServer]:
    """One server without keys for all tests that do not change how it is set up."""
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        with serve(engine, lookups, ServerSettings(auth=False, requests_per_minute=0)) as server:
            yield server


@pytest.fixture
def namespace() -> str:
    """A namespace of the test's own."""
    with _lock:
        return f"space{next(_names)}"


@pytest.fixture
def client(shared_server: RunningServer, namespace: str) -> Iterator[httpx.Client]:
    """A client of the shared server, in the test's own namespace."""
    headers = {"X-Memedit-Namespace": namespace}
    with httpx.Client(base_url=shared_server.url, headers=headers, timeout=30) as found:
        yield found
