"""Answering requests: as a whole or as a stream, until it is done, the time is up, or the client has gone."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from memedit.server.engines.base import (
    CallPiece,
    Completion,
    Ended,
    Event,
    GenerationRequest,
    Passed,
    Piece,
    Started,
    Usage,
)
from memedit.server.rendering import Body, ChatRenderer, Renderer, provenance_headers
from memedit.server.state import ServerState
from memedit.server.streams import DONE, EventStream, event, limited, merged, unless_gone

Numbered = tuple[int, Event]
"""An event, and the number of the prompt it is about."""


async def answer(
    request: Request,
    state: ServerState,
    asked: Sequence[GenerationRequest],
    shape: Renderer,
    *,
    stream: bool,
    usage: bool,
) -> Response:
    """Return the response to some prompts; ``usage`` has a stream end with the counts.

    Raises:
        ApiError: the engine refuses a request or fails, or it took too long.
        ClientGoneError: nobody waits for the answer.
    """
    within, seconds = state.deadlines.within, state.settings.request_timeout
    if stream:
        events = merged([state.observer.stream(request, one) for one in asked])
        try:
            started, early = await unless_gone(request, _opened(events, len(asked)), within(seconds))
        except BaseException:
            await events.aclose()
            raise
        chunks = _Chunks(shape, asked[0].sampling.n, started, usage)
        body = limited(chunks.of(_chained(early, events)), within(seconds))
        return EventStream(body, provenance_headers([one.provenance for one in started]))
    completions = await unless_gone(request, _completed(request, state, asked), within(seconds))
    headers = provenance_headers([completion.provenance for completion in completions])
    return JSONResponse(shape.whole(completions), headers=headers)


async def _completed(request: Request, state: ServerState, asked: Sequence[GenerationRequest]) -> list[Completion]:
    """Answer every prompt; when one fails, the others are given up."""
    tasks = [asyncio.ensure_future(state.observer.complete(request, one)) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _opened(events: AsyncIterator[Numbered], count: int) -> tuple[list[Started], list[Numbered]]:
    """Wait until every prompt has been looked up, so that the headers can tell; return what came meanwhile too."""
    found: dict[int, Started] = {}
    early: list[Numbered] = []
    while len(found) < count:
        number, item = await anext(events)
        if isinstance(item, Started):
            found[number] = item
        else:
            early.append((number, item))
    return [found[number] for number in range(count)], early


async def _chained(early: Sequence[Numbered], events: AsyncIterator[Numbered]) -> AsyncIterator[Numbered]:
    try:
        for item in early:
            yield item
        async for item in events:
            yield item
    finally:
        await events.aclose()  # type: ignore[attr-defined]


class _Chunks:
    """Events to chunks of one stream."""

    def __init__(self, shape: Renderer, n: int, started: Sequence[Started], usage: bool) -> None:
        self._shape, self._n, self._usage = shape, n, usage
        self._found, self._passes = [one.provenance for one in started], started[0].passes
        self._usages: list[Usage] = []

    async def of(self, events: AsyncIterator[Numbered]) -> AsyncGenerator[bytes]:
        try:
            extra: Body = self._shape.provenance(self._found) if self._passes else {}
            for chunk in () if self._passes else self._shape.first(self._found, self._n):
                yield event(chunk)
            async for number, item in events:
                body = self._body(number, item)
                if body is not None:
                    yield event(body | extra)
                    extra = {}
            if self._usage and (not self._passes or len(self._found) > 1):
                yield event(self._shape.usage(self._usages))
            yield DONE
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    def _body(self, number: int, item: Any) -> Body | None:
        if isinstance(item, Passed):
            self._usages += [item.usage] if item.usage is not None else []
            return self._shape.passed(number, item)
        if isinstance(item, Piece):
            return self._shape.piece(number, item)
        if isinstance(item, CallPiece) and isinstance(self._shape, ChatRenderer):
            return self._shape.call(number, item)
        if isinstance(item, Ended):
            return self._shape.ended(number, item)
        if isinstance(item, Usage):
            self._usages.append(item)
        return None
