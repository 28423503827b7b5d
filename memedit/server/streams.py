"""Server-sent events, and work that ends when its client goes away."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import anyio
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from memedit.server.problems import ApiError, ClientGoneError, stopping, told

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"


class EventStream(StreamingResponse):
    """Server-sent events. Watches the connection while it waits for the next event, so that work stops at once."""

    def __init__(self, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        plain = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, headers={**plain, **headers}, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or stop when the client goes away."""
        async with anyio.create_task_group() as group:

            async def then_stop(work: Callable[[], Awaitable[None]]) -> None:
                await work()
                group.cancel_scope.cancel()

            group.start_soon(then_stop, partial(self._send_all, send))
            await then_stop(partial(self.listen_for_disconnect, receive))

    async def _send_all(self, send: Send) -> None:
        try:
            await self.stream_response(send)
        except OSError:
            return  # gone while we were sending


def event(body: Mapping[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class Deadlines:
    """Ends each request when its time is up, and all that are under way when the server's is. For one event loop."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self.over = False
        """Whether the server has stopped waiting."""

    @asynccontextmanager
    async def within(self, seconds: float | None) -> AsyncIterator[None]:
        """Give what is done inside so many seconds, None for no limit of its own.

        Raises:
            ApiError: 504, they are over; 503, the server stops.
        """
        try:
            async with asyncio.timeout(0 if self.over else seconds) as limit:
                self._open.add(limit)
                try:
                    yield
                finally:
                    self._open.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            if self.over:
                raise stopping() from None
            message = f"the answer was not complete after {seconds:g} seconds"
            raise ApiError(504, message, code="timeout") from None

    def end(self) -> None:
        """Let everything under way say that the server stops, and end."""
        self.over = True
        for limit in self._open:
            limit.reschedule(0)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], within: AbstractAsyncContextManager[None]) -> T:
    """Return what ``work`` returns; cancel it when the client goes away or the time is up.

    Raises:
        ClientGoneError: the client has gone.
        ApiError: it took longer than it may.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        async with within:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


def _enveloped(error: ApiError) -> bytes:
    return event(error.envelope())


async def limited(
    chunks: AsyncGenerator[bytes],
    within: AbstractAsyncContextManager[None],
    written: Callable[[ApiError], bytes] = _enveloped,
) -> AsyncIterator[bytes]:
    """Pass chunks on for as long as they may take; what goes wrong after the headers are out is told in the stream.

    ``written`` makes the event that tells it.
    """
    try:
        async with within:
            async for chunk in chunks:
                yield chunk
    except Exception as error:  # a stream that has begun can end in no other way
        yield written(told(error))
    finally:
        await chunks.aclose()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def merged(streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T], None]:
    """Yield (number of the stream, item) as items come; an error in one ends all."""
    queue: asyncio.Queue[tuple[int, T] | BaseException | None] = asyncio.Queue(maxsize=64)

    async def pump(number: int, stream: AsyncIterator[T]) -> None:
        try:
            async for item in stream:
                await queue.put((number, item))
            await queue.put(None)
        except Exception as error:
            await queue.put(error)
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    tasks = [asyncio.ensure_future(pump(number, stream)) for number, stream in enumerate(streams)]
    try:
        open_streams = len(tasks)
        while open_streams:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                open_streams -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
