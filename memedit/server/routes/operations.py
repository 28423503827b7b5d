"""For those who run the server: is it alive, is it ready, what is it doing."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from memedit.errors import MemeditError
from memedit.memory import EditMemory, Role
from memedit.server.auth import Principal, require
from memedit.server.problems import ApiError
from memedit.server.schemas.common import responses
from memedit.server.state import server_state

router = APIRouter(tags=["operations"])


class HealthOut(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class ReadyOut(BaseModel):
    """Whether requests can be answered now; if not, why."""

    ready: bool
    reason: str | None = None


@router.get("/health", operation_id="health")
async def health() -> HealthOut:
    """Say that the process is alive."""
    return HealthOut()


@router.get(
    "/ready",
    operation_id="ready",
    responses={503: {"model": ReadyOut, "description": "Not ready; the reason is in the body."}},
    response_model=ReadyOut,
)
async def ready(request: Request) -> JSONResponse:
    """Say whether model and memory can answer now."""
    state = server_state(request)
    reason = await state.engine.problem()
    if reason is None:
        try:
            await state.quick.run(_look, state.memory)
        except MemeditError as error:
            reason = str(error)
    return JSONResponse({"ready": reason is None, "reason": reason}, 200 if reason is None else 503)


def _look(memory: EditMemory) -> None:
    memory.check_store()
    _ = memory.revision


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses()},
)
def metrics(request: Request, who: Annotated[Principal, require(Role.READ)]) -> Response:
    """Return figures for Prometheus. They cover every namespace, so the key must too."""
    if who.namespaces is not None:
        raise ApiError(403, "metrics cover every namespace; this key does not", code="namespace_not_allowed")
    return Response(server_state(request).metrics.text(), media_type="text/plain; version=0.0.4")
