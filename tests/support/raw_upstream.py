"""An upstream that sends any bytes, well-formed or not, and remembers exactly what it was sent."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

DONE = b"data: [DONE]\n\n"


@dataclass
class RawUpstream:
    """Answers every POST with ``answer``, in the parts given; models are listed as ``models``."""

    answer: Sequence[bytes] = ()
    models: bytes = b'{"data": [{"id": "m", "created": 1, "owned_by": "x"}]}'
    bodies: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    url: str = ""

    def says(self, body: bytes, *, kind: str = "application/json", status: str = "200 OK", headers: str = "") -> None:
        """Answer with a whole body of that length."""
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.answer = [head.encode() + body]

    def streams(self, *parts: bytes, kind: str = "text/event-stream", headers: str = "") -> None:
        """Answer with a stream that ends with the connection."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n{headers}\r\n"
        self.answer = [head.encode(), *parts]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(sizes[0].split(b":")[1])) if sizes else b""
            if head.startswith(b"GET"):
                length = str(len(self.models)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + self.models)
            else:
                self.heads.append(head)
                self.bodies.append(body)
                for part in self.answer:
                    writer.write(part)
                    await writer.drain()
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@contextmanager
def raw_upstream() -> Iterator[RawUpstream]:
    """Run one in a thread of its own."""
    upstream = RawUpstream()
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def main() -> None:
        server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0)
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
