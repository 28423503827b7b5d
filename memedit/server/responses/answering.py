"""Answering a request of the Responses API: as a whole or as events, stored before its end is told."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
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
    Provenance,
    Started,
)
from memedit.server.rendering import Shown, provenance_headers, shown_provenance
from memedit.server.responses.building import Body, ResponseBuilder, events_of_chunk
from memedit.server.state import ServerState
from memedit.server.streams import EventStream, limited, unless_gone

Keep = Callable[[Body], Coroutine[Any, Any, bool]]
"""Stores a response; returns whether it is stored."""


async def respond(
    request: Request,
    state: ServerState,
    asked: GenerationRequest,
    *,
    head: Body,
    shown: Shown,
    keep: Keep,
    stream: bool,
) -> Response:
    """Return the response to one request.

    Raises:
        ApiError: the engine refuses the request or fails, or it took too long.
        ClientGoneError: nobody waits for the answer.
    """
    within, seconds = state.deadlines.within, state.settings.request_timeout
    if not stream:
        completion = await unless_gone(request, state.observer.complete(request, asked), within(seconds))
        builder = _builder(head, completion.provenance, shown)
        for item in _events_of(completion):
            builder.take(item)
        builder.end(stored=False)
        builder.body["store"] = await keep({**builder.body, "store": True})
        return JSONResponse(builder.body, headers=provenance_headers([completion.provenance]))
    events = state.observer.stream(request, asked)
    try:
        started = await unless_gone(request, _first(events), within(seconds))
    except BaseException:
        await events.aclose()  # type: ignore[attr-defined]
        raise
    builder = _builder(head, started.provenance, shown)
    chunks = limited(_chunks(builder, events, keep), within(seconds), lambda error: written(builder.fail(error)))
    return EventStream(chunks, provenance_headers([started.provenance]))


def written(body: Body) -> bytes:
    """Return an event with its name, as the Responses API sends them."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return f"event: {body['type']}\ndata: {data}\n\n".encode()


def _builder(head: Body, provenance: Provenance, shown: Shown) -> ResponseBuilder:
    return ResponseBuilder({**head, "memedit": shown_provenance(provenance, shown)})


async def _first(events: AsyncIterator[Event]) -> Started:
    first = await anext(events)
    assert isinstance(first, Started)  # the protocol's first event
    return first


async def _chunks(builder: ResponseBuilder, events: AsyncIterator[Event], keep: Keep) -> AsyncGenerator[bytes]:
    async with aclosing(events):  # type: ignore[type-var]
        for body in builder.begin():
            yield written(body)
        async for item in events:
            for one in _native(item):
                for body in builder.take(one):
                    yield written(body)
        last = builder.end(stored=True)
        if not await keep(builder.body):
            last[-1]["response"]["store"] = False
        for body in last:
            yield written(body)


def _native(item: Event) -> list[Event]:
    """An engine's event, or those of an upstream's chunk."""
    if not isinstance(item, Passed):
        return [item]
    return [*events_of_chunk(item.body), *([] if item.usage is None else [item.usage])]


def _events_of(completion: Completion) -> list[Event]:
    """Return a whole answer as events."""
    if completion.body is not None:
        return [*events_of_chunk(completion.body), completion.usage]
    (choice,) = completion.choices
    events: list[Event] = [Piece(0, choice.text)] if choice.text else []
    for number, call in enumerate(choice.calls):
        events.append(CallPiece(0, number, call.arguments, call.id, call.name))
    return [*events, Ended(0, choice.reason), completion.usage]
