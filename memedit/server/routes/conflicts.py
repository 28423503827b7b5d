"""Pairs of edits that perhaps contradict each other, and texts that teach an edit where to fire."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from memedit.server.auth import Access, EditAccess, ReadAccess
from memedit.server.changes import IfMatch, Once, edit_response, expected_version, reply
from memedit.server.min_revision import awaited_revision
from memedit.server.queues import fairly, queued
from memedit.server.routes.edits import EditId
from memedit.server.schemas.common import responses
from memedit.server.schemas.conflicts import PossibleConflictList, PossibleConflictOut, SettleIn, TaughtIn
from memedit.server.schemas.edits import EditOut
from memedit.server.state import server_state
from memedit.types import Edit

router = APIRouter(prefix="/v1/edits", tags=["edits"], dependencies=[Depends(awaited_revision)])


@router.get("/conflicts", operation_id="possible_conflicts", responses=responses(404))
@fairly
def possible_conflicts(
    *,
    request: Request,
    access: ReadAccess,
    edit: Annotated[str | None, Query(min_length=1, max_length=200, description="Only pairs of this edit.")] = None,
) -> PossibleConflictList:
    """List pairs of edits in force that perhaps contradict each other, the likeliest first."""
    found = server_state(request).memory.possible_conflicts(edit, namespace=access.namespace)
    return PossibleConflictList(data=[PossibleConflictOut.of(pair) for pair in found])


@router.post(
    "/conflicts/settle",
    operation_id="settle_conflict",
    response_model=PossibleConflictOut,
    responses=responses(404),
)
@queued
def settle(*, request: Request, access: EditAccess, body: SettleIn, once: Once) -> Response:
    """Settle a pair: one question (the older edit is withdrawn), or two facts (they never conflict again)."""

    def change() -> Response:
        memory = server_state(request).memory
        pair = memory.settle_conflict(*body.edits, same=body.same, namespace=access.namespace)
        return reply(PossibleConflictOut.of(pair))

    return once.make(access, change)


@router.post("/{edit_id}/block", operation_id="block_edit", response_model=EditOut, responses=responses(404, 409, 412))
@queued
def block(
    *,
    request: Request,
    access: EditAccess,
    edit_id: EditId,
    body: TaughtIn,
    once: Once,
    if_match: IfMatch = None,
) -> Response:
    """Teach an edit a text that must not fire it; it is in force when this returns."""
    memory, version = server_state(request).memory, expected_version(if_match)
    return _taught(
        once,
        access,
        lambda: memory.block(edit_id, body.text, remove=body.remove, namespace=access.namespace, if_version=version),
    )


@router.post("/{edit_id}/also", operation_id="also_edit", response_model=EditOut, responses=responses(404, 409, 412))
@queued
def also(
    *,
    request: Request,
    access: EditAccess,
    edit_id: EditId,
    body: TaughtIn,
    once: Once,
    if_match: IfMatch = None,
) -> Response:
    """Teach an edit a text that must fire it too; it is in force when this returns."""
    memory, version = server_state(request).memory, expected_version(if_match)
    return _taught(
        once,
        access,
        lambda: memory.also(edit_id, body.text, remove=body.remove, namespace=access.namespace, if_version=version),
    )


def _taught(once: Once, access: Access, change: Callable[[], Edit]) -> Response:
    return once.make(access, lambda: edit_response(change()))
