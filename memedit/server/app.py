"""The application: routes, limits and errors put together around an engine and a memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.concurrency import run_in_threadpool

from memedit.errors import MemeditError
from memedit.server.auth import Authenticator
from memedit.server.consolidations import Consolidator
from memedit.server.engines.base import Engine
from memedit.server.lookups import Lookups
from memedit.server.metrics import Metrics
from memedit.server.middleware import REQUEST_ID, REVISION, Accounts, BodyLimit, Gate, OwnPagesOnly
from memedit.server.problems import install_handlers
from memedit.server.routes import (
    administration,
    asking,
    conflicts,
    console,
    consolidations,
    edits,
    embeddings,
    files,
    keys,
    openai,
    operations,
    requests,
    responses,
    scope,
)
from memedit.server.settings import ServerSettings
from memedit.server.state import ServerState
from memedit.server.version_watcher import VersionWatcher

ROUTERS = (
    operations.router,
    openai.router,
    embeddings.router,
    responses.router,
    files.router,  # before the routes of single edits, whose ids would match theirs
    asking.router,
    conflicts.router,
    edits.router,
    administration.router,
    keys.router,
    requests.router,
    scope.router,
    console.router,
)

_FORGET_EVERY = 600.0
_LOOK_EVERY = 1.0


def create_app(
    engine: Engine,
    lookups: Lookups,
    settings: ServerSettings | None = None,
    *,
    consolidator: Consolidator | None = None,
    watcher: VersionWatcher | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        engine: answers requests; started and stopped with the application.
        lookups: the memory, and the scope over it.
        settings: limits and habits.
        consolidator: runs consolidation jobs; without one there are no such routes.
        watcher: keeps the weights of ``lookups`` those of the champion; without one they stay what they are.

    The memory is the caller's to close, after the application has stopped.
    """
    settings = settings or ServerSettings()
    keys = lookups.memory.keys if settings.auth else None
    metrics = Metrics(lookups, engine, consolidator, watcher)
    lookups.observe = metrics.looked_up
    authenticator = Authenticator(keys, settings.requests_per_minute)
    state = ServerState(engine, lookups, settings, authenticator, metrics, consolidator, watcher)
    if consolidator is not None and watcher is not None:
        consolidator.published = watcher.look

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        state.log.start()
        await run_in_threadpool(state.upkeep.start)
        habits = [asyncio.create_task(habit) for habit in (_forget_requests(state), _follow(watcher))]
        try:
            yield
        finally:
            for habit in habits:
                habit.cancel()
            if consolidator is not None:
                await run_in_threadpool(consolidator.stop)
            await engine.stop(drain=settings.drain)
            await run_in_threadpool(state.log.close)
            await run_in_threadpool(state.upkeep.close)
            state.close()

    # no pages of FastAPI's own: they load scripts from elsewhere
    app = FastAPI(
        title="memedit", version=_version(), lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None
    )
    app.state.memedit = state
    install_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    if consolidator is not None:
        app.include_router(consolidations.router)
    app.add_middleware(BodyLimit, limit=settings.max_body, import_limit=settings.max_import)
    app.add_middleware(Gate, state=state)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[REVISION, REQUEST_ID, "ETag", "Retry-After"],
        )
    if not settings.auth:
        app.add_middleware(OwnPagesOnly, origins=settings.cors_origins)
    app.add_middleware(Accounts, state=state)
    _document(app)
    return app


async def _forget_requests(state: ServerState) -> None:
    """Forget, now and then, what was answered so long ago that nobody repeats it."""
    kept, most = timedelta(hours=state.settings.idempotency_hours), state.settings.max_responses
    while True:
        with suppress(MemeditError):  # read-only or away just now: the next time will do
            await state.changes.run("", lambda: state.memory.requests.forget(datetime.now(UTC) - kept))
            await state.changes.run("", lambda: state.memory.responses.forget(datetime.now(UTC), most=most))
        await asyncio.sleep(_FORGET_EVERY)


async def _follow(watcher: VersionWatcher | None) -> None:
    """Notice, within a second, what another process has published or rolled back."""
    while watcher is not None:
        await run_in_threadpool(watcher.look)
        await asyncio.sleep(_LOOK_EVERY)


def _document(app: FastAPI) -> None:
    """Leave FastAPI's own 422 out of the OpenAPI document: what it stands for is answered with 400 here."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _version() -> str:
    from importlib.metadata import version

    return version("memedit")
