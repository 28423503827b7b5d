"""A balancer such as stands in front of several servers: each request goes to the next one that takes connections."""

import asyncio
import contextlib
import itertools
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class RoundRobin:
    """Forwards to ``ports`` of this machine in turn; ``sent`` counts the requests that each was given."""

    ports: Sequence[int]
    url: str = ""
    sent: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._turns = itertools.count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection, so that the next one goes to the next server."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n"
            found = await self._connected()
            if found is not None:
                back_reader, back_writer = found
                back_writer.write(head)
                body = asyncio.create_task(_pump(reader, back_writer))
                await _pump(back_reader, writer)
                body.cancel()
                back_writer.close()
        writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        turn = next(self._turns)
        for step in range(len(self.ports)):
            port = self.ports[(turn + step) % len(self.ports)]
            with contextlib.suppress(OSError):
                found = await asyncio.open_connection("127.0.0.1", port)
                self.sent[port] += 1
                return found
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextmanager
def round_robin(ports: Sequence[int]) -> Iterator[RoundRobin]:
    """Run one in a thread of its own."""
    balancer = RoundRobin(ports)
    loop, started, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
        balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        async with server:
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield balancer
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
