"""Running the application in this process until it is told to stop."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from memedit.errors import InputError
from memedit.server.allocation import share_arenas
from memedit.server.connections import protocol_of
from memedit.server.streams import Deadlines

_BACKLOG = 2048
_FILES = 65_536
_GRACE = 2.0
"""Seconds for telling those who are still waiting at the end of the drain."""


def check_host(host: str, *, auth: bool) -> None:
    """Refuse to serve everyone who can reach this machine without asking for a key.

    Raises:
        InputError: ``auth`` is off and ``host`` is not a loopback address.
    """
    if auth or host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InputError(
            f"without API keys the server listens on a loopback address only, and {host!r} is none; make a key with "
            "`memedit keys create` and leave out --no-auth, or listen on 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        InputError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    # Connections inherit it. asyncio sets it itself only on sockets made with an explicit protocol number; without
    # it a piece of a stream waits up to 40 ms for the receiver's delayed acknowledgement of the piece before.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run(app: FastAPI, listener: socket.socket, *, drain: float, started: Callable[[], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; then finish what is under way within ``drain`` seconds.

    Args:
        app: the application.
        listener: where; see :func:`listen`.
        drain: seconds for requests under way; those that take longer are told that the server stops.
        started: called when the model is loaded and requests are answered.
    """
    share_arenas()
    server_of(app, drain=drain, started=started).run(sockets=[listener])


def server_of(app: FastAPI, *, drain: float, started: Callable[[], None] | None = None) -> uvicorn.Server:
    """Return the server that :func:`run` runs."""
    _allow_files()
    config = uvicorn.Config(
        app,
        http=protocol_of(app.state.memedit.settings),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=drain + _GRACE,  # type: ignore[arg-type]
    )
    return _Server(config, app.state.memedit.deadlines, drain, started)


def _allow_files() -> None:
    """Let this process have as many connections open as the system grants it: shells often grant few at first."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, deadlines: Deadlines, drain: float, started: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._deadlines, self._drain, self._told = deadlines, drain, started

    async def startup(self, sockets: Any = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        if self.started and self._told is not None:
            self._told()

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop; a signal that was obeyed is not raised again, so the process ends with status 0."""
        ending = asyncio.get_running_loop().call_later(self._drain, self._deadlines.end)
        await super().shutdown(sockets=sockets)
        ending.cancel()
        self._captured_signals.clear()
