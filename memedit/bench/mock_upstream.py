"""An OpenAI-compatible upstream that waits and then says what it always says: the yardstick of the proxy's overhead.

Run as ``python -m memedit.bench.mock_upstream SECONDS``; prints its port.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from memedit.server.runner import listen

WORDS = ("It ", "is ", "so.")
_USAGE = {"prompt_tokens": 8, "completion_tokens": len(WORDS)}


def pacing_app(first_token: float) -> FastAPI:
    """Return an upstream whose first token comes after so many seconds."""
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"data": [{"id": "pace", "created": 0, "owned_by": "memedit"}]})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        streamed = (await request.json()).get("stream")

        async def events() -> AsyncIterator[str]:
            await asyncio.sleep(first_token)
            for word in WORDS:
                yield _event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            yield _event({"choices": [], "usage": _USAGE})
            yield "data: [DONE]\n\n"

        if not streamed:
            await asyncio.sleep(first_token)
            choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
            return JSONResponse({"choices": [choice], "usage": _USAGE})
        return StreamingResponse(events(), media_type="text/event-stream")

    return app


def _event(body: object) -> str:
    return f"data: {json.dumps(body)}\n\n"


def main() -> None:
    """Serve until ended."""
    listener = listen("127.0.0.1", 0)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    app = pacing_app(float(sys.argv[1]))
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
