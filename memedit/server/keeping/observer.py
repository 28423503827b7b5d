"""What is noticed about every prompt that an engine answers: figures, quotas, the request log."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from time import perf_counter

from fastapi import Request

from memedit.errors import MemeditError
from memedit.server.auth import Principal
from memedit.server.engines.base import Completion, Engine, Event, GenerationRequest, Passed, Piece, Started, Usage
from memedit.server.keeping.notes import Asker, Note, said_in
from memedit.server.keeping.quotas import QuotaKeeper
from memedit.server.keeping.request_log import RequestRecorder
from memedit.server.metrics import Metrics
from memedit.server.problems import ApiError, as_api_error


class Observer:
    """Has an engine answer, and counts, charges and notes what it does.

    Args:
        engine: answers.
        metrics: counts.
        quotas: charges tokens to key and namespace.
        log: takes notes.
    """

    def __init__(self, engine: Engine, metrics: Metrics, quotas: QuotaKeeper, log: RequestRecorder) -> None:
        self._engine, self._metrics, self._quotas, self._log = engine, metrics, quotas, log

    async def stream(self, request: Request, asked: GenerationRequest) -> AsyncIterator[Event]:
        """Answer piece by piece."""
        with self.noted(request, asked) as note:
            since = perf_counter()
            events = self._metrics.counted(self._engine.stream(asked))
            try:
                async for event in events:
                    _notice(note, event, since, keep=self._log.on)
                    yield event
            finally:
                await events.aclose()  # type: ignore[attr-defined]

    async def complete(self, request: Request, asked: GenerationRequest) -> Completion:
        """Answer as a whole."""
        with self.noted(request, asked) as note:
            found = await self._engine.complete(asked)
            note.provenance, note.usage = found.provenance, found.usage
            if self._log.on:
                said = found.choices[0].text if found.choices else ""
                note.answer = [said if found.body is None else said_in(found.body)]
        self._metrics.started(found.provenance)
        self._metrics.used(found.usage)
        return found

    @contextmanager
    def noted(self, request: Request, asked: GenerationRequest) -> Iterator[Note]:
        """Note what becomes of a request and charge what it costs; what answers it tells the note what it knows."""
        who: Principal = request.state.principal
        route = getattr(request.scope.get("route"), "path", "")
        note = Note(Asker(who.name, request.state.request_id, route, who.logged), asked)
        since = perf_counter()
        try:
            yield note
        except BaseException as error:
            note.status = _code(error)
            raise
        finally:
            note.seconds = perf_counter() - since
            if note.provenance is not None or note.usage is not None:
                self._quotas.charge(who, asked.namespace, note.spent())
            self._log.take(note)


def _notice(note: Note, event: Event, since: float, *, keep: bool) -> None:
    if isinstance(event, Started):
        note.provenance = event.provenance
    elif isinstance(event, Usage):
        note.usage = event
    elif isinstance(event, Piece | Passed):
        note.pieces += 1
        if note.first_token is None:
            note.first_token = perf_counter() - since
        if isinstance(event, Passed) and event.usage is not None:
            note.usage = event.usage
        if keep and isinstance(event, Passed):
            note.answer.append(said_in(event.body))
        elif keep and isinstance(event, Piece) and event.index == 0:
            note.answer.append(event.text)


def _code(error: BaseException) -> str:
    """What became of a request that did not end well."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    if isinstance(error, MemeditError):
        error = as_api_error(error)
    if isinstance(error, ApiError):
        return error.code or str(error.status)
    return "internal_error"
