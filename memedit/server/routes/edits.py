"""The edit API: look at edits, change them, ask why one would fire."""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response

from memedit.errors import FieldError
from memedit.memory import EditMemory
from memedit.server.auth import EditAccess, ReadAccess
from memedit.server.changes import IfMatch, Once, edit_response, etag, expected_version, reply
from memedit.server.min_revision import awaited_revision
from memedit.server.queues import fairly, queued
from memedit.server.schemas.common import Time, responses
from memedit.server.schemas.edits import (
    BatchIn,
    BatchOut,
    ChangeOut,
    EditIn,
    EditList,
    EditOut,
    EditPatch,
    HistoryOut,
    OnConflictValue,
    ScoredEdit,
    SearchOut,
    WithdrawIn,
    WithdrawnOut,
)
from memedit.server.state import server_state
from memedit.types import Edit, EditState

router = APIRouter(prefix="/v1/edits", tags=["edits"], dependencies=[Depends(awaited_revision)])

EditId = Annotated[str, Path(min_length=1, max_length=200)]
Policy = Annotated[
    OnConflictValue,
    Query(description="What to do when it contradicts an edit in force: refuse, replace, keep both."),
]
Limit = Annotated[int, Query(ge=1, le=1_000, description="At most so many.")]
State = Literal["pending", "active", "consolidated", "retired", "all"]

Order = Literal[
    "added", "-added", "changed", "-changed", "prompt", "-prompt", "target", "-target", "subject", "-subject"
]


def _memory(request: Request) -> EditMemory:
    return server_state(request).memory


@router.post(
    "",
    operation_id="create_edit",
    response_model=EditOut,
    status_code=201,
    responses={200: {"model": EditOut, "description": "The same edit was there already."}, **responses(409)},
)
@queued
def create(
    *, request: Request, access: EditAccess, body: EditIn, once: Once, on_conflict: Policy = "error"
) -> Response:
    """Store an edit and put it in force: it is when this returns. Adding what is there returns the first."""
    memory = _memory(request)

    def change() -> Response:
        draft = body.model_dump()
        report = memory.add_many([draft], namespace=access.namespace, on_conflict=on_conflict)
        edit = memory.get(report.ids[0], namespace=access.namespace)
        return edit_response(edit, 201 if report.added else 200)

    return once.make(access, change, status=201)


@router.post("/batch", operation_id="create_edits", response_model=BatchOut, responses=responses(409))
@queued
def create_many(
    *, request: Request, access: EditAccess, body: BatchIn, once: Once, on_conflict: Policy = "error"
) -> Response:
    """Store many edits in one transaction: all of them, or none."""

    def change() -> Response:
        drafts = [edit.model_dump() for edit in body.edits]
        report = _memory(request).add_many(drafts, namespace=access.namespace, on_conflict=on_conflict)
        return reply(BatchOut.of(report))

    return once.make(access, change)


@router.post(
    "/withdraw", operation_id="withdraw_many_edits", response_model=WithdrawnOut, responses=responses(404, 409)
)
@queued
def withdraw_many(*, request: Request, access: EditAccess, body: WithdrawIn, once: Once) -> Response:
    """Withdraw edits in one transaction: all of them, or none."""

    def change() -> Response:
        memory, space = _memory(request), access.namespace
        before = memory.get_many(body.ids, namespace=space)
        memory.delete_many(body.ids, namespace=space)
        found = memory.get_many(body.ids, namespace=space)
        already = [edit.id for edit in before if edit.state is EditState.RETIRED]
        return reply(WithdrawnOut(data=[EditOut.of(edit) for edit in found], already=already))

    return once.make(access, change)


@router.get("", operation_id="list_edits", responses=responses(404))
@fairly
def list_edits(
    *,
    request: Request,
    access: ReadAccess,
    state: Annotated[State | None, Query(description="Without it, every edit not withdrawn.")] = None,
    metadata: Annotated[
        str | None, Query(max_length=4_096, description='JSON object of values to match, such as {"batch": "may"}.')
    ] = None,
    after: Annotated[str | None, Query(max_length=200, description="Only edits that come later than this one.")] = None,
    limit: Limit = 100,
    order: Annotated[Order, Query(description="Sort by this; with - in front the other way round.")] = "added",
    count: Annotated[bool, Query(description="Say also how many there are on all pages.")] = False,
) -> EditList:
    """List edits, as a rule in the order in which they were added."""
    wanted = _metadata(metadata)
    found = _memory(request).list(
        state=state, metadata=wanted, limit=limit + 1, after=after, order=order, namespace=access.namespace
    )
    total = _memory(request).count(state=state, metadata=wanted, namespace=access.namespace) if count else None
    return _page(found, limit).model_copy(update={"total": total})


@router.get("/as-of", operation_id="edits_as_of", responses=responses(404))
@fairly
def as_of(
    *,
    request: Request,
    access: ReadAccess,
    at: Annotated[Time, Query(description="A time of the store.")],
    valid: Annotated[Time | None, Query(description="Only edits that hold in the world at this time.")] = None,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Limit = 100,
) -> EditList:
    """List the edits that the store held at a time, as they were then."""
    found = _memory(request).as_of(at, valid=valid, namespace=access.namespace)
    page = found[offset : offset + limit]
    more = len(found) > offset + limit
    return EditList(data=[EditOut.of(edit) for edit in page], has_more=more, next=str(offset + limit) if more else None)


@router.get("/search", operation_id="search_edits", responses=responses())
@fairly
def search(
    *,
    request: Request,
    access: ReadAccess,
    q: Annotated[str, Query(min_length=1, max_length=10_000, description="Words, or a question.")],
    mode: Annotated[Literal["text", "semantic"], Query(description="By words, or by meaning.")] = "text",
    limit: Limit = 10,
) -> SearchOut:
    """Search edits: by words (every word occurs in the edit) or by meaning (cosine)."""
    found = _memory(request).search(q, k=limit, mode=mode, namespace=access.namespace)
    return SearchOut(data=[ScoredEdit(edit=EditOut.of(edit), score=score) for edit, score in found])


@router.get(
    "/{edit_id}",
    operation_id="get_edit",
    response_model=EditOut,
    responses={304: {"description": "It is at the version that If-None-Match names."}, **responses(404)},
)
def get(
    *,
    request: Request,
    access: ReadAccess,
    edit_id: EditId,
    if_none_match: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Return the current version of an edit, withdrawn or not."""
    edit = _memory(request).get(edit_id, namespace=access.namespace)
    if if_none_match is not None and if_none_match.strip() == etag(edit):
        return Response(status_code=304, headers={"ETag": etag(edit)})
    return edit_response(edit)


@router.patch("/{edit_id}", operation_id="update_edit", response_model=EditOut, responses=responses(404, 409, 412))
@queued
def update(
    *,
    request: Request,
    access: EditAccess,
    edit_id: EditId,
    body: EditPatch,
    once: Once,
    if_match: IfMatch = None,
    on_conflict: Policy = "error",
) -> Response:
    """Correct an edit in place: the same id, the next version."""
    return _changed(
        once,
        access,
        lambda: _memory(request).update(
            edit_id,
            namespace=access.namespace,
            on_conflict=on_conflict,
            if_version=expected_version(if_match),
            **body.changes(),
        ),
    )


@router.post(
    "/{edit_id}/supersede",
    operation_id="supersede_edit",
    response_model=EditOut,
    status_code=201,
    responses=responses(404, 409, 412),
)
@queued
def supersede(
    *,
    request: Request,
    access: EditAccess,
    edit_id: EditId,
    body: EditPatch,
    once: Once,
    if_match: IfMatch = None,
    on_conflict: Policy = "error",
) -> Response:
    """Replace an edit by a new one with its own id; the old one is withdrawn in the same transaction."""
    changes = body.changes()
    if "state" in changes:
        raise FieldError("state", "a new edit is active; leave it out")
    return _changed(
        once,
        access,
        lambda: _memory(request).supersede(
            edit_id,
            namespace=access.namespace,
            on_conflict=on_conflict,
            if_version=expected_version(if_match),
            **changes,
        ),
        201,
    )


@router.delete("/{edit_id}", operation_id="delete_edit", response_model=EditOut, responses=responses(404, 409, 412))
@queued
def delete(*, request: Request, access: EditAccess, edit_id: EditId, once: Once, if_match: IfMatch = None) -> Response:
    """Withdraw an edit: it no longer answers, is kept, and can be restored. Twice is as once."""
    version = expected_version(if_match)
    return _changed(
        once, access, lambda: _memory(request).delete(edit_id, namespace=access.namespace, if_version=version)
    )


@router.post(
    "/{edit_id}/restore", operation_id="restore_edit", response_model=EditOut, responses=responses(404, 409, 412)
)
@queued
def restore(
    *,
    request: Request,
    access: EditAccess,
    edit_id: EditId,
    once: Once,
    if_match: IfMatch = None,
    on_conflict: Policy = "error",
) -> Response:
    """Bring a withdrawn edit back into force."""
    version = expected_version(if_match)
    return _changed(
        once,
        access,
        lambda: _memory(request).restore(
            edit_id, namespace=access.namespace, on_conflict=on_conflict, if_version=version
        ),
    )


@router.get("/{edit_id}/history", operation_id="edit_history", responses=responses(404))
@fairly
def history(*, request: Request, access: ReadAccess, edit_id: EditId) -> HistoryOut:
    """Return every change of an edit, oldest first."""
    found = _memory(request).history(edit_id, namespace=access.namespace)
    return HistoryOut(data=[ChangeOut.of(change) for change in found])


def _changed(once: Any, access: Any, change: Callable[[], Edit], status: int = 200) -> Response:
    found: Response = once.make(access, lambda: edit_response(change(), status), status=status)
    return found


def _metadata(text: str | None) -> dict[str, Any] | None:
    """Read the metadata filter.

    Raises:
        FieldError: it is no JSON object.
    """
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FieldError("metadata", f"{text[:80]!r} is no JSON object")
    return found


def _page(found: list[Edit], limit: int) -> EditList:
    page = found[:limit]
    more = len(found) > limit
    return EditList(data=[EditOut.of(edit) for edit in page], has_more=more, next=page[-1].id if more else None)
