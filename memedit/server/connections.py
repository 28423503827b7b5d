"""Connections that take their time: each has limits, so that slow clients, and very many, leave the rest served."""

import asyncio
import contextlib
import json
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from memedit.server.problems import ApiError
from memedit.server.settings import ServerSettings

_SLOWEST = 16 << 10
"""Bytes a second that a body has to come with, after ``body_timeout``."""

_CHECK = 1.0


def protocol_of(settings: ServerSettings) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with the limits of a server."""

    class Protocol(LimitedProtocol):
        limits = settings

    return Protocol


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 with a time limit for a request's head and body, for a client that does not read, and a number of all.

    When all connections are taken, the one that has been idle longest, or whose request has been coming longest, makes
    room for a new one; where none is idle the new one is refused.
    """

    limits: ClassVar[ServerSettings] = ServerSettings()

    def connection_made(self, transport: Any) -> None:
        """Take a new connection, where there is room."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.max_connections and not self._make_room():
            full = f"the server has {self.limits.max_connections} connections already"
            self._refuse(ApiError(503, full, code="overloaded", headers={"Retry-After": "1"}), "Service Unavailable")
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what comes; the clock of a request begins with its first byte."""
        if self.transport.is_closing():
            return
        if not self._coming:
            self._since, self._received = self.loop.time(), 0
        self._received += len(data)
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Be idle again."""
        self._since, self._received = self.loop.time(), 0
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client that does not read so much time."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self.limits.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it reads again."""
        if self._stalled is not None:
            self._stalled.cancel()
        super().resume_writing()

    @property
    def _answering(self) -> bool:
        """Whether a whole request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    @property
    def _coming(self) -> bool:
        """Whether a request has begun to come and is not there as a whole."""
        body = self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body
        return body or bool(self.conn.trailing_data[0]) or (self._received > 0 and self.conn.their_state is h11.IDLE)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_CHECK, self._look)

    def _look(self) -> None:
        """End a connection whose request has not come in time."""
        self._timer = None
        if self.transport.is_closing():
            return
        if self._answering or (self.timeout_keep_alive_task is not None and not self._coming):
            self._received = 0
            return  # looked at again when more comes
        in_body = self.cycle is not None and not self.cycle.response_complete
        allowed = self.limits.body_timeout + self._received / _SLOWEST if in_body else self.limits.head_timeout
        if self.loop.time() - self._since > allowed:
            what = "body" if in_body else "head"
            self._refuse(ApiError(408, f"the request's {what} did not come in time", code="timeout"), "Request Timeout")
            return
        self._watch()

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request; return whether there was one."""
        others: list[Any] = [one for one in self.connections if one is not self and not one.transport.is_closing()]
        idle = [one for one in others if not one._answering]
        if not idle:
            return False
        oldest = min(idle, key=lambda one: one._since)
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _refuse(self, error: ApiError, reason: str) -> None:
        """Say what is wrong, without the application, and close the connection."""
        started = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not started:
            body = json.dumps(error.envelope()).encode()
            lines = [f"HTTP/1.1 {error.status} {reason}", "Content-Type: application/json", "Connection: close"]
            lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in error.headers.items())]
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
