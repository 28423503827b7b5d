"""An OpenAI-compatible upstream whose every answer is set by the test, and that remembers what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


@dataclass
class ScriptedUpstream:
    """Says ``words`` to everything, or answers with ``refusal`` (status, body, headers) where one is set."""

    words: tuple[str, ...] = ("It", " is", " so.")
    refusal: tuple[int, Any, dict[str, str]] | None = None
    pause: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    dropped: int = 0
    break_off: bool = False
    said: list[str] = field(default_factory=list)

    def transport(self) -> httpx.ASGITransport:
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
        ]
        return httpx.ASGITransport(Starlette(routes=routes))

    async def _models(self, request: Request) -> Response:
        if self.refusal is not None:
            return self._refused()
        return JSONResponse({"data": [{"id": "small", "created": 5, "owned_by": "them"}, {"id": "big"}]})

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    def _refused(self) -> Response:
        assert self.refusal is not None
        status, body, headers = self.refusal
        if isinstance(body, str):
            return Response(body, status, headers)
        return JSONResponse(body, status, headers)

    async def _answer(self, request: Request, *, chat: bool) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        if self.refusal is not None:
            return self._refused()
        usage = {"prompt_tokens": 7, "completion_tokens": len(self.words), "total_tokens": 7 + len(self.words)}
        if body.get("stream"):
            return StreamingResponse(self._kept(self._events(chat, usage)), media_type="text/event-stream")
        said = "".join(self.words)
        choice = {"message": {"role": "assistant", "content": said}} if chat else {"text": said}
        return JSONResponse({"choices": [{"index": 0, **choice, "finish_reason": "stop"}], "usage": usage})

    async def _kept(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        """Remember the chunks that were sent."""
        async for event in events:
            if event.startswith("data: {"):
                self.said.append(event.removeprefix("data: "))
            yield event

    async def _events(self, chat: bool, usage: dict[str, int]) -> AsyncIterator[str]:
        if chat:
            yield _event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for word in self.words:
            part = {"delta": {"content": word}} if chat else {"text": word}
            yield _event({"choices": [{"index": 0, **part, "finish_reason": None}]})
        if self.break_off:
            yield _event({"error": {"message": "out of memory"}})
            return
        yield _event({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "length"}]})
        yield _event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
