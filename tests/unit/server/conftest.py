"""A real server over a tiny model, on a port of its own, for the tests of this folder."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from memory.hashing_encoder import HashingEncoder
from running_server import RunningServer, serve
from tiny import tiny_model, tiny_tokenizer

from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.server.engines.local import LocalEngine
from memedit.server.lookups import Lookups
from memedit.server.settings import ServerSettings

_names = itertools.count()
_lock = threading.Lock()


@pytest.fixture(scope="session")
def tiny_llama() -> Any:
    return tiny_model("llama")


@pytest.fixture(scope="session")
def tiny_chat_tokenizer() -> Any:
    return tiny_tokenizer()


def local_engine(model: Any, tokenizer: Any, memory: EditMemory, **options: Any) -> tuple[LocalEngine, Lookups]:
    """An engine over a tiny model with the subject scope and the in-context adapter."""
    lookups = Lookups(memory, scope="subject")
    editable = EditableModel.wrap(model, tokenizer, memory, scope=lookups.scope, adapter="in_context")
    return LocalEngine(editable, lookups, name="tiny", **options), lookups


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
