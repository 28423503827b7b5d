"""An engine that is somewhere else: memory, scope and in-context editing in front of any OpenAI-compatible server."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool

from memedit.server.engines.base import (
    Completion,
    EngineLoad,
    EngineModel,
    Event,
    GenerationRequest,
    Provenance,
    Started,
)
from memedit.server.engines.lookup_queue import LookupQueue
from memedit.server.engines.proxy_bodies import (
    NoteRole,
    asked_text,
    checked_body,
    ended,
    passed,
    request_body,
    usage_of,
)
from memedit.server.engines.upstream import Upstream
from memedit.server.lookups import Lookups
from memedit.server.problems import ApiError

ADAPTER = "in_context"
_ERROR = "upstream_error"
_MODELS_KEPT = 30.0
_PROBE_SECONDS = 3.0


class ProxyEngine:
    """Answers with an upstream engine: prompts on which edits fire are sent with the edits stated in them.

    All others go through as they came. A prompt that names no stored edit's subject will most likely go through, so
    it is sent on at once, and its answer held back until the look-up has said so; in the rare other case that request
    is dropped and the edited one sent. Prompts that are token ids cannot be looked up, since the tokenizer is the
    upstream's: they are refused unless edits are switched off.

    Args:
        lookups: the memory, and the scope over it.
        upstream: the engine.
        model: upstream's name of the model for requests that name none; None asks the upstream.
        note_role: the message that takes the edits: "system", or "user" for models whose template has no system role.
        overlap: send prompts on while they are looked up, as said above.
    """

    def __init__(
        self,
        lookups: Lookups,
        upstream: Upstream,
        *,
        model: str | None = None,
        note_role: NoteRole = "system",
        overlap: bool = True,
    ) -> None:
        self._lookups, self._upstream = lookups, upstream
        self._model, self._note_role, self._overlap = model, note_role, overlap
        self._queue = LookupQueue(lookups)
        self._models: tuple[float, tuple[EngineModel, ...]] = (float("-inf"), ())
        self._running = 0

    async def start(self) -> None:
        """Load scope and encoder; the upstream may come up later."""
        await run_in_threadpool(self._warm_up)

    def _warm_up(self) -> None:
        """Have the first request find everything loaded, also where no edit is stored yet."""
        scope, encoder = self._lookups.scope, self._lookups.memory.encoder
        scope.decide(encoder.encode_tokens(["Is everything there?"]), [()])

    async def stop(self, *, drain: float) -> None:
        """Wait for answers under way, at most ``drain`` seconds, and close all connections."""
        deadline = time.monotonic() + drain
        while self._running and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._queue.close()
        await self._upstream.close()

    async def problem(self) -> str | None:
        """Return why the upstream cannot be used, None when it answers."""
        try:
            await self._upstream.get("/models", timeout=_PROBE_SECONDS)
        except ApiError as error:
            return None if await self._upstream.is_healthy(timeout=_PROBE_SECONDS) else error.message
        return None

    async def models(self) -> Sequence[EngineModel]:
        """Return the upstream's models, the default one first; asked for anew after half a minute.

        Raises:
            ApiError: the upstream cannot list them and no default model was given.
        """
        asked_at, known = self._models
        if not known or time.monotonic() - asked_at > _MODELS_KEPT:
            known = await self._listed()
            self._models = (time.monotonic(), known)
        return known

    async def _listed(self) -> tuple[EngineModel, ...]:
        try:
            body = await self._upstream.get("/models", timeout=_PROBE_SECONDS)
        except ApiError:
            if self._model is None:
                raise
            return (EngineModel(self._model, 0, "upstream"),)  # some engines answer but cannot list
        listed = body.get("data")
        items = listed if isinstance(listed, list) else ()
        found = [_model(item) for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]
        if self._model is None:
            return tuple(found)
        others = [model for model in found if model.name != self._model]
        return (EngineModel(self._model, 0, "upstream"), *others)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Event]:
        """Answer piece by piece."""
        with self._counted():
            provenance, response = await self._opened(request, stream=True)
            chunks = self._upstream.chunks(response)
            open_choices: dict[int, bool] = {}
            try:
                yield Started(provenance, passes=True)
                async for chunk in chunks:
                    if chunk is None:  # the end, as the upstream says it
                        return
                    found = passed(chunk, chat=request.chat)
                    open_choices |= {index: not over for index, over in ended(chunk).items()}
                    yield found
                if any(open_choices.values()) or not open_choices:
                    raise ApiError(502, "the upstream engine broke off in the middle of its answer", code=_ERROR)
            finally:
                await chunks.aclose()
                await response.aclose()

    async def complete(self, request: GenerationRequest) -> Completion:
        """Answer as a whole."""
        with self._counted():
            provenance, response = await self._opened(request, stream=False)
            body = checked_body(await self._upstream.whole(response), chat=request.chat)
            return Completion(provenance, (), usage_of(body), body)

    def load(self) -> EngineLoad:
        """Return how many answers are under way."""
        return EngineLoad(waiting=0, running=self._running)

    @contextlib.contextmanager
    def _counted(self) -> Any:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _opened(self, request: GenerationRequest, *, stream: bool) -> tuple[Provenance, httpx.Response]:
        """Look the prompt up and return why the answer is what it is, and the upstream's open response."""
        served = self._lookups.weights.of(request.namespace, edits=request.edits)
        path = "/chat/completions" if request.chat else "/completions"
        model = request.model or await self._default_model()
        plain = request_body(request, (), model=model, note_role=self._note_role)
        if not request.edits:
            revision = await run_in_threadpool(lambda: self._lookups.memory.revision)
            provenance = Provenance(request.namespace, revision, None, None, served.version)
            return provenance, await self._upstream.open(path, plain, stream=stream)
        query = asked_text(request)
        if query is None:
            raise ApiError(
                400,
                "a prompt of token ids cannot be looked up here, the tokenizer is the upstream engine's; send text, or "
                'switch edits off with {"memedit": {"edits": false}}',
                code="unsupported_parameter",
                param="prompt",
            )
        early = None
        if self._overlap and not self._lookups.memory.names_subject(query.talk, namespace=request.namespace):
            early = asyncio.create_task(self._upstream.open(path, plain, stream=stream))
        try:
            found = await self._queue.find(request.namespace, query)
            decision = found.decisions[0]
            adapter = ADAPTER if decision.fired else None
            provenance = Provenance(request.namespace, found.revision, adapter, decision, served.version)
            if not decision.fired:
                kept, early = early, None
                return provenance, await (kept if kept is not None else self._upstream.open(path, plain, stream=stream))
            if early is not None:
                unwanted, early = early, None
                await _drop(unwanted)
            edits = [hit.edit for hit in decision.fired]
            edited = request_body(request, edits, model=model, note_role=self._note_role)
            return provenance, await self._upstream.open(path, edited, stream=stream)
        finally:
            if early is not None:
                await _drop(early)

    async def _default_model(self) -> str:
        if self._model is not None:
            return self._model
        found = await self.models()
        if not found:
            raise ApiError(502, "the upstream engine offers no model; name one in the request", code=_ERROR)
        return found[0].name


async def _drop(task: asyncio.Task[httpx.Response]) -> None:
    """End a request that is not wanted, whatever has become of it."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ApiError):
        response = await task
        await response.aclose()


def _model(item: dict[str, Any]) -> EngineModel:
    created = item.get("created")
    return EngineModel(
        item["id"], created if isinstance(created, int) else 0, str(item.get("owned_by") or "upstream")[:200]
    )
