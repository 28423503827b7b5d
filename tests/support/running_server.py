"""The application behind uvicorn in a thread of this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.server import ServerSettings, create_app
from memedit.server.engines.base import Engine
from memedit.server.engines.local import LocalEngine
from memedit.server.lookups import Lookups
from memedit.server.runner import listen, server_of


@dataclass
class RunningServer:
    """A server that answers at ``url``; ``stop`` ends it as SIGTERM would."""

    url: str
    app: Any
    lookups: Lookups
    engine: Any
    server: uvicorn.Server
    thread: threading.Thread

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, **options)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)


@contextmanager
def serve(engine: Engine, lookups: Lookups, settings: ServerSettings, **parts: Any) -> Iterator[RunningServer]:
    """Run a server until the block ends; ``parts`` are further arguments of ``create_app``."""
    app = create_app(engine, lookups, settings, **parts)
    listener = listen("127.0.0.1", 0)
    server = server_of(app, drain=settings.drain)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = RunningServer(url, app, lookups, engine, server, thread)
    try:
        for _ in range(200):
            if server.started:
                break
            thread.join(0.05)
        assert server.started
        yield running
    finally:
        running.stop()
        assert not thread.is_alive()


def local_engine(model: Any, tokenizer: Any, memory: EditMemory, **options: Any) -> tuple[LocalEngine, Lookups]:
    """An engine over a tiny model with the subject scope and the in-context adapter."""
    lookups = Lookups(memory, scope="subject")
    editable = EditableModel.wrap(model, tokenizer, memory, scope=lookups.scope, adapter="in_context")
    return LocalEngine(editable, lookups, name="tiny", **options), lookups
