"""Writing edits into the weights: start, watch, gates, publish, roll back, withdraw."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from memedit.consolidation.versions import VersionStore
from memedit.errors import MemeditError
from memedit.memory import EditMemory
from memedit.server.auth import Access, AdminAccess, ReadAccess
from memedit.server.consolidations import Consolidator
from memedit.server.min_revision import awaited_revision
from memedit.server.problems import ApiError
from memedit.server.queues import queued
from memedit.server.schemas.common import EVENT, responses
from memedit.server.schemas.consolidations import (
    AliasesOut,
    ConsolidationsOut,
    InWeightsOut,
    JobIn,
    JobOut,
    LedgerOut,
    ServingOut,
    VersionOut,
    WithdrawIn,
)
from memedit.server.state import ServerState, server_state
from memedit.server.streams import EventStream, event, limited
from memedit.workflows.consolidate import versions
from memedit.workflows.consolidate.standing import in_weights
from memedit.workflows.consolidate.states import LEASE

router = APIRouter(prefix="/v1/consolidations", tags=["consolidation"], dependencies=[Depends(awaited_revision)])

JobId = Annotated[str, Path(min_length=1, max_length=64)]
VersionName = Annotated[str, Path(pattern=r"^(v\d{4,8}|candidate|champion|previous)$")]
_POLL = 0.3
_STREAM = {"text/event-stream": {"schema": EVENT}}


def _consolidator(request: Request) -> Consolidator:
    found = server_state(request).consolidator
    if found is None:
        raise ApiError(404, "this server does not consolidate", code="not_consolidating")
    return found


@router.get("", operation_id="consolidations", responses=responses(404))
def overview(request: Request, access: ReadAccess) -> ConsolidationsOut:
    """Return a namespace's versions with their gates, its jobs, and the ledger."""
    consolidator = _consolidator(request)
    with consolidator.setup.opened(access.namespace, access.who.name) as (memory, store):
        named = store.aliases().named()
        return ConsolidationsOut(
            aliases=AliasesOut(**named),
            serving=_serving(server_state(request), access.namespace),
            busy=_busy(memory),
            jobs=[JobOut.of(job) for job in consolidator.jobs(access.namespace)],
            versions=[VersionOut.of(store.record(name), named) for name in reversed(store.names())],
            ledger=[LedgerOut.of(entry) for entry in store.entries()],
        )


@router.get("/edits/{edit_id}", operation_id="edit_in_weights", responses=responses(404))
def edit_in_weights(
    request: Request, access: ReadAccess, edit_id: Annotated[str, Path(min_length=1, max_length=200)]
) -> InWeightsOut:
    """Return in how many words the champion's weights answer an edit, as they were asked at consolidation."""
    with _consolidator(request).setup.opened(access.namespace, access.who.name) as (memory, store):
        found = in_weights(memory, store, memory.get(edit_id))
    if found is None:
        raise ApiError(404, f"the champion's weights know nothing of edit {edit_id!r} as it is now", code="not_found")
    return InWeightsOut(**asdict(found))


@router.post("", operation_id="start_consolidation", status_code=202, responses=responses(404, 409))
@queued
def start(request: Request, access: AdminAccess, body: JobIn) -> JobOut:
    """Start a job: solve for all edits in force, measure gates on the candidate, publish it when they allow."""
    consolidator = _consolidator(request)
    _check_idle(consolidator, access)
    job = consolidator.start(
        access.namespace,
        access.who.name,
        settings=body.settings(),
        metadata=body.metadata,
        publish=body.publish,
        again=body.again,
    )
    return JobOut.of(job)


@router.post("/withdraw", operation_id="withdraw_edits", status_code=202, responses=responses(404, 409))
@queued
def withdraw(request: Request, access: AdminAccess, body: WithdrawIn) -> JobOut:
    """Withdraw edits from the memory at once and, by a job that solves again without them, from the weights."""
    consolidator = _consolidator(request)
    _check_idle(consolidator, access)
    server_state(request).memory.get_many(body.ids, namespace=access.namespace)
    with consolidator.setup.opened(access.namespace, access.who.name) as (memory, store):
        memory.delete_many(body.ids)
        champion = store.champion()
    settings = {} if champion is None else {"method": champion.method}
    job = consolidator.start(access.namespace, access.who.name, settings=settings, withdraw=body.ids)
    return JobOut.of(job)


@router.post("/rollback", operation_id="rollback", responses=responses(404, 409))
@queued
def rollback(request: Request, access: AdminAccess) -> AliasesOut:
    """Make the previous version, or the plain base, the champion again; a server that follows it answers so at once."""
    with _consolidator(request).setup.opened(access.namespace, access.who.name) as (memory, store):
        now = store.aliases()
        if now.champion is None and now.previous is None:
            raise ApiError(409, "no version was ever published, so there is nothing to roll back", code="no_version")
        with _followed(request, access, now.previous):
            return AliasesOut(**versions.rollback(memory, store).named())


@router.get("/jobs/{job_id}", operation_id="consolidation_job", responses=responses(404))
def job(request: Request, access: ReadAccess, job_id: JobId) -> JobOut:
    """Return how a job stands."""
    return JobOut.of(_consolidator(request).job(access.namespace, job_id))


@router.delete("/jobs/{job_id}", operation_id="cancel_consolidation", responses=responses(404))
@queued
def cancel(request: Request, access: AdminAccess, job_id: JobId) -> JobOut:
    """End a job; nothing that anyone is answered from has changed."""
    return JobOut.of(_consolidator(request).cancel(access.namespace, job_id))


@router.get(
    "/jobs/{job_id}/events",
    operation_id="watch_consolidation",
    response_model=JobOut,
    responses={200: {"description": "A stream of states, the last one final.", "content": _STREAM}, **responses(404)},
)
async def watch(request: Request, access: ReadAccess, job_id: JobId) -> Response:
    """Follow a job: its state as an event whenever it changes, until it has ended."""
    consolidator = _consolidator(request)
    consolidator.job(access.namespace, job_id)

    async def states() -> AsyncGenerator[bytes]:
        last = None
        while True:
            now = consolidator.job(access.namespace, job_id)
            if now != last:
                last = now
                yield event(JobOut.of(now).model_dump(mode="json"))
            if now.state != "running":
                return
            await asyncio.sleep(_POLL)

    return EventStream(limited(states(), server_state(request).deadlines.within(None)), {})


@router.get("/versions/{name}", operation_id="get_version", responses=responses(404))
def version(request: Request, access: ReadAccess, name: VersionName) -> VersionOut:
    """Return a version, or the one under an alias, with its gates."""
    with _consolidator(request).setup.opened(access.namespace, access.who.name) as (_, store):
        return VersionOut.of(store.record(_known(store, name)), store.aliases().named())


@router.post("/versions/{name}/publish", operation_id="publish_version", responses=responses(404, 409))
@queued
def publish(request: Request, access: AdminAccess, name: VersionName) -> AliasesOut:
    """Make a version the champion, whatever its verdict; a server that follows it answers so at once."""
    with _consolidator(request).setup.opened(access.namespace, access.who.name) as (memory, store):
        name = _known(store, name)
        with _followed(request, access, name):
            return AliasesOut(**versions.promote(memory, store, name).named())


@contextmanager
def _followed(request: Request, access: Access, version: str | None) -> Iterator[None]:
    """Have the champion that is made inside answer before the response is sent, where this server follows it.

    Raises:
        ApiError: 409, the version cannot be loaded; nothing has been changed.
    """
    watcher = server_state(request).watcher
    if watcher is None or watcher.namespace != access.namespace:
        yield
        return
    try:
        watcher.load(version)
    except MemeditError as error:
        raise ApiError(409, f"this server cannot answer with it: {error}", code="version_unusable") from error
    yield
    watcher.look()


def _serving(state: ServerState, namespace: str) -> ServingOut:
    weights = state.lookups.weights
    mine = weights.namespace == namespace
    watcher = state.watcher if mine else None
    problem = None if watcher is None else watcher.problem
    return ServingOut(version=weights.own.version if mine else None, follows=watcher is not None, problem=problem)


def _known(store: VersionStore, name: str) -> str:
    found = store.aliases().named().get(name, name)
    if found is None or found not in store.names():
        raise ApiError(404, f"there is no version {name!r}", code="version_not_found")
    return found


def _busy(memory: EditMemory) -> bool:
    return memory.lease(LEASE) is not None


def _check_idle(consolidator: Consolidator, access: Access) -> None:
    with consolidator.setup.opened(access.namespace, access.who.name) as (memory, _):
        if _busy(memory):
            raise ApiError(409, "another process consolidates this namespace now", code="job_running")
