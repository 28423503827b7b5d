"""A whole server in a thread of this process: memory, routes and a scripted upstream instead of a language model."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from memedit.memory import EditMemory
from memedit.server import ServerSettings, create_app
from memedit.server.engines.proxy import ProxyEngine
from memedit.server.engines.upstream import Upstream
from memedit.server.lookups import Lookups
from support.scripted_upstream import ScriptedUpstream


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free port of this machine; the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()


def proxy_app(memory: EditMemory, upstream: ScriptedUpstream, consolidator: Any = None, **settings: Any) -> FastAPI:
    """An application whose answers are the scripted upstream's."""
    lookups = Lookups(memory, scope="subject")
    engine = ProxyEngine(lookups, Upstream("http://upstream", transport=upstream.transport()))
    return create_app(engine, lookups, ServerSettings(**{"auth": False, **settings}), consolidator=consolidator)
