"""The engine in this process: a language model, its memory, and a thread that keeps one running batch full."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from memedit.adapters.base import DecodesInSteps
from memedit.errors import ContextLengthError, UnsupportedModelError
from memedit.runtime import EditableModel
from memedit.runtime.continuous import ContinuousBatch, check_model
from memedit.runtime.lengths import check_fits
from memedit.runtime.structured import Grammar, StructureKind
from memedit.server.engines.base import (
    Completion,
    EngineLoad,
    EngineModel,
    Event,
    GenerationRequest,
    Usage,
    collect,
)
from memedit.server.engines.compiling import Compiler
from memedit.server.engines.planning import Planner
from memedit.server.engines.prompts import local_prompt
from memedit.server.engines.structures import structure_of
from memedit.server.engines.tickets import Ticket
from memedit.server.engines.toolbox import Toolbox, style_of, toolbox_of
from memedit.server.engines.unsupported import check_extra
from memedit.server.engines.worker import Worker
from memedit.server.lookups import Lookups
from memedit.server.problems import ApiError

_log = logging.getLogger("memedit.server")


class LocalEngine:
    """Answers with one model in this process.

    Requests that wait join the running batch as soon as there is room, whatever edits fire on them; each leaves when
    it is done. A model, or an adapter, that cannot be decoded so is answered one request at a time.

    Args:
        model: the model on its memory; its scope is not used, ``lookups`` has its own.
        lookups: finds the edits of a prompt in any namespace.
        name: what clients call the model; ``aliases`` are further names.
        max_rows: answers generated at once.
        max_waiting: requests that may wait beside them; see :class:`~memedit.server.engines.worker.Worker`.
        max_tokens: rows times columns of the key-value cache.
        default_max_tokens: length of an answer unless asked otherwise.
    """

    def __init__(
        self,
        model: EditableModel,
        lookups: Lookups,
        *,
        name: str,
        aliases: Sequence[str] = (),
        max_rows: int = 32,
        max_waiting: int = 256,
        max_tokens: int = 65_536,
        default_max_tokens: int = 512,
    ) -> None:
        self._model, self._lookups = model, lookups
        self._names = tuple(dict.fromkeys((name, *aliases)))
        self._max_rows, self._max_waiting, self._max_tokens = max_rows, max_waiting, max_tokens
        self._default = default_max_tokens
        self._created = int(time.time())
        self._compiler = Compiler(model.grammars)
        self._worker: Worker | None = None
        self._draining = False

    async def start(self) -> None:
        """Load scope and adapter, find out how the model can be decoded, and start the thread."""
        self._worker = await run_in_threadpool(self._make_worker)
        self._worker.start()

    async def stop(self, *, drain: float) -> None:
        """Take no more requests; wait for those under way, drop the rest, end the thread."""
        self._draining = True
        if self._worker is not None:
            await run_in_threadpool(self._worker.stop, drain)
        self._compiler.close()

    async def problem(self) -> str | None:
        """Return why requests cannot be answered now."""
        if self._worker is None:
            return "the model is being loaded"
        if self._draining:
            return "the server is stopping"
        return None if self._worker.alive else "the engine's thread has ended"

    async def models(self) -> Sequence[EngineModel]:
        """Return the one model under its names."""
        return [EngineModel(name, self._created) for name in self._names]

    def load(self) -> EngineLoad:
        """Return how busy it is."""
        return EngineLoad(0, 0) if self._worker is None else self._worker.load()

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Event]:
        """Answer piece by piece."""
        async for event in self._events(await self._submit(request)):
            yield event

    async def _events(self, ticket: Ticket) -> AsyncIterator[Event]:
        try:
            while True:
                event = await ticket.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Usage):
                    return
        finally:
            ticket.cancelled = True  # a no-op when all has been said

    async def complete(self, request: GenerationRequest) -> Completion:
        """Answer as a whole; edits that came up on the way are in its provenance too."""
        ticket = await self._submit(request)
        found = await collect(self._events(ticket), request.sampling.n)
        decision, late = found.provenance.decision, ticket.late
        if decision is None or not late:
            return found
        told = replace(decision, fired=(*decision.fired, *late), abstained=False)
        adapter = found.provenance.adapter or self._model.adapter.name
        return replace(found, provenance=replace(found.provenance, decision=told, adapter=adapter))

    async def _submit(self, request: GenerationRequest) -> Ticket:
        reason = await self.problem()
        if reason is not None or self._worker is None:
            raise ApiError(503, str(reason), code="not_ready", headers={"Retry-After": "1"})
        self._worker.check_room(request.who)
        if request.sampling.n > self._max_rows:
            raise ApiError(400, f"n={request.sampling.n} is more than {self._max_rows}", param="n")
        check_extra(request.extra)
        toolbox = toolbox_of(request.extra)
        grammar = await self._grammar(request, toolbox)
        ticket = await run_in_threadpool(self._ticket, request, toolbox, asyncio.get_running_loop())
        ticket.grammar = grammar
        self._worker.submit(ticket)
        return ticket

    async def _grammar(self, request: GenerationRequest, toolbox: Toolbox | None) -> Grammar | None:
        """Compile what the answer has to be."""
        structure, field = structure_of(request.extra) or (None, "tools")
        if (structure is not None or toolbox is not None) and request.sampling.ignore_eos:
            raise ApiError(400, f"ignore_eos contradicts {field}", code="invalid_value", param="ignore_eos")
        if toolbox is None:
            return None if structure is None else await self._compiler.compile(request.who, structure, field)
        if structure is not None and structure.kind is not StructureKind.JSON:
            raise ApiError(400, f"{field} cannot be combined with tools", code="invalid_value", param=field)
        return await self._compiler.compile_calls(request.who, toolbox, style_of(self._model.tokenizer), structure)

    def _ticket(self, request: GenerationRequest, toolbox: Toolbox | None, loop: asyncio.AbstractEventLoop) -> Ticket:
        """Tokenise a request and settle its length."""
        if toolbox is not None and not request.chat:
            raise ApiError(400, "tools are called in chats alone", code="invalid_value", param="tools")
        prompt, row = local_prompt(self._model.tokenizer, request, toolbox)
        context = self._model.context_length
        try:
            check_fits(len(row.ids), context)
        except ContextLengthError as error:
            where = "messages" if request.chat else "prompt"
            raise ApiError(400, str(error), code="context_length_exceeded", param=where) from error
        room = None if context is None else context - len(row.ids)
        asked = request.sampling.max_tokens
        if asked is not None and room is not None and asked > room:
            raise ApiError(
                400,
                f"the model reads at most {context} tokens; the prompt has {len(row.ids)} and max_tokens is {asked}",
                code="context_length_exceeded",
                param="max_tokens",
            )
        limit = asked if asked is not None else min(self._default, room or self._default)
        return Ticket(request, prompt, row, limit, loop, toolbox)

    def _make_worker(self) -> Worker:
        model = self._model
        adapter = model.adapter
        _ = self._lookups.scope
        try:
            model.grammars.prepare()
        except UnsupportedModelError as error:
            _log.warning("%s; requests for it are refused", error)
        batch: ContinuousBatch | None = None
        try:
            check_model(model.base, model.pad_token_id, model.base.config.get_text_config().vocab_size)
            if not isinstance(adapter, DecodesInSteps):
                _log.warning("adapter %r cannot join a running batch: its rows are answered one by one", adapter.name)
            batch = ContinuousBatch(
                model.base,
                model.pad_token_id,
                adapter if isinstance(adapter, DecodesInSteps) else None,
                max_rows=self._max_rows,
                max_tokens=self._max_tokens,
            )
        except UnsupportedModelError as error:
            _log.warning("%s; requests are answered one by one", error)
        return Worker(Planner(model, self._lookups), batch, self._max_rows, self._max_waiting)
