"""For those who run the server: is it alive, is it ready, what is it doing."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from memedit.errors import MemeditError
from memedit.memory import EditMemory, Role
from memedit.server.auth import Principal, require
from memedit.server.keeping.figures import STEP
from memedit.server.problems import ApiError
from memedit.server.schemas.common import responses
from memedit.server.state import server_state

router = APIRouter(tags=["operations"])


class FigureOut(BaseModel):
    """What happened in the minute up to ``at``. ``running`` and ``waiting`` are as they were then; times are seconds.

    ``errors`` are answers with a status of 500 and above, ``refused`` those with 429; ``read`` and ``written`` tokens.
    """

    at: datetime
    servers: int
    requests: float
    errors: float
    refused: float
    prompts: float
    edited: float
    read: float
    written: float
    lookups: float
    lookup_seconds: float
    firsts: float
    first_seconds: float
    running: float
    waiting: float


class FigureList(BaseModel):
    """The minutes of the last day in which a server ran, oldest first; ``seconds`` is what each stands for."""

    object: Literal["list"] = "list"
    data: list[FigureOut]
    seconds: int


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
    _check_everywhere(who)
    return Response(server_state(request).metrics.text(), media_type="text/plain; version=0.0.4")


@router.get("/v1/figures", operation_id="figures", responses=responses())
def figures(request: Request, who: Annotated[Principal, require(Role.READ)]) -> FigureList:
    """Return figures of each minute of the last day, of all servers of the memory together."""
    _check_everywhere(who)
    return FigureList(data=[FigureOut(**row) for row in server_state(request).figures.day()], seconds=STEP)


def _check_everywhere(who: Principal) -> None:
    if who.namespaces is not None:
        raise ApiError(403, "figures cover every namespace; this key does not", code="namespace_not_allowed")
