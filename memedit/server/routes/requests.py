"""The request log: what was asked, which edits fired, and what people say of it.

An administrator sees the requests of their namespaces; everybody else those that their own key made.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from memedit.memory import LoggedRequest, Role
from memedit.server.auth import Editor, Principal, Reader
from memedit.server.problems import ApiError
from memedit.server.queues import fairly
from memedit.server.schemas.common import Time, responses
from memedit.server.schemas.requests import FeedbackIn, FeedbackList, FeedbackOut, RequestList, RequestOut
from memedit.server.state import ServerState, server_state
from memedit.types import Edit

router = APIRouter(prefix="/v1", tags=["requests"])

_NO_NUL = r"^[^\x00]*$"
RowId = Annotated[str, Path(min_length=1, max_length=200, pattern=_NO_NUL)]
Namespace = Annotated[
    str | None, Query(max_length=255, pattern=_NO_NUL, description="Only of this one; else of all the key's.")
]


@router.get("/requests", operation_id="list_requests", responses=responses())
@fairly
def list_requests(
    *,
    request: Request,
    who: Reader,
    namespace: Namespace = None,
    key: Annotated[
        str | None, Query(max_length=500, pattern=_NO_NUL, description="Only of this key: its name/id.")
    ] = None,
    edit: Annotated[
        str | None, Query(max_length=200, pattern=_NO_NUL, description="Only where the edit with this id fired.")
    ] = None,
    fired: Annotated[bool | None, Query(description="Only where an edit fired, or where none did.")] = None,
    q: Annotated[str | None, Query(max_length=1_000, description="Only with all these words.")] = None,
    since: Annotated[Time | None, Query(description="Only from then on.")] = None,
    until: Annotated[Time | None, Query(description="Only before then.")] = None,
    before: Annotated[
        str | None, Query(max_length=200, pattern=_NO_NUL, description="Only older than this row.")
    ] = None,
    after: Annotated[
        str | None, Query(max_length=200, pattern=_NO_NUL, description="Only newer than this row; the oldest.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RequestList:
    """Return requests that were answered, newest first, where the server keeps a log of them."""
    state = server_state(request)
    rows = state.memory.request_log.list(
        namespaces=_spaces(who, namespace),
        actor=_seen_key(who, key),
        edit=edit,
        fired=fired,
        text=None if q is None else q.replace("\0", " "),
        since=since,
        until=until,
        before=before,
        after=after,
        limit=limit + 1,
    )
    page = rows[-limit:] if after is not None else rows[:limit]
    more = len(rows) > limit and after is None
    edits = _edits(state, page)
    data = [RequestOut.of(row, edits) for row in page]
    return RequestList(data=data, next=page[-1].id if more else None, enabled=state.log.on)


@router.get("/requests/{row_id}", operation_id="get_request", responses=responses(404))
def get_request(request: Request, who: Reader, row_id: RowId) -> RequestOut:
    """Return one request of the log."""
    state = server_state(request)
    row = _row(state, who, row_id)
    return RequestOut.of(row, _edits(state, [row]))


@router.post("/requests/{row_id}/feedback", operation_id="give_feedback", status_code=201, responses=responses(404))
async def give_feedback(request: Request, who: Editor, row_id: RowId, body: FeedbackIn) -> FeedbackOut:
    """Say that an edit should have fired on a request, or should not have; kept until `scope calibrate` acts on it."""
    state = server_state(request)

    def give() -> FeedbackOut:
        row = _row(state, who, row_id)
        if not row.query.strip():
            raise ApiError(400, "this request has no text that an edit could be judged on", code="invalid_value")
        found = state.memory.feedback.add(
            body.edit,
            row.query,
            should_fire=body.should_fire,
            namespace=row.namespace,
            actor=who.name,
            earlier=row.earlier,
            request=row.id,
        )
        return FeedbackOut.of(found, state.memory.get(body.edit, namespace=row.namespace))

    return await state.changes.run(who.name, give)


@router.get("/feedback", operation_id="list_feedback", responses=responses())
@fairly
def list_feedback(
    *,
    request: Request,
    who: Reader,
    namespace: Namespace = None,
    settled: Annotated[bool | None, Query(description="Only what was acted upon, or only what was not.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> FeedbackList:
    """Return what was said of requests, newest first."""
    state = server_state(request)
    found = state.memory.feedback.list(
        namespaces=_spaces(who, namespace), actor=_seen_key(who, None), settled=settled, limit=limit
    )
    edits = _known(state, ((one.namespace, one.edit_id) for one in found))
    return FeedbackList(data=[FeedbackOut.of(one, edits.get(one.edit_id)) for one in found])


@router.delete("/feedback/{feedback_id}", operation_id="withdraw_feedback", responses=responses(404))
async def withdraw_feedback(request: Request, who: Editor, feedback_id: RowId) -> FeedbackOut:
    """Take back what was said."""
    state = server_state(request)

    def remove() -> FeedbackOut:
        found = state.memory.feedback.get(feedback_id)
        if found is None or not _sees(who, found.namespace, found.actor):
            raise ApiError(404, f"no feedback {feedback_id!r} that this key can see", code="not_found")
        state.memory.feedback.remove(found.id)
        return FeedbackOut.of(found)

    return await state.changes.run(who.name, remove)


def _spaces(who: Principal, namespace: str | None) -> Sequence[str] | None:
    """The namespaces that a request is about; None is all there are."""
    if namespace is not None:
        return [who.check_namespace(namespace)]
    return None if who.namespaces is None else sorted(who.namespaces)


def _seen_key(who: Principal, asked: str | None) -> str | None:
    """Whose requests this one may see: None is everybody's.

    Raises:
        ApiError: 403, they ask for another's.
    """
    if who.may(Role.ADMIN):
        return asked
    if asked is not None and asked != who.name:
        message = f"other keys' requests are for those with the role 'admin'; this key is {who.name!r}"
        raise ApiError(403, message, code="role_missing")
    return who.name


def _sees(who: Principal, namespace: str, key: str) -> bool:
    """Whether a key may see what another, or itself, did in a namespace."""
    return (who.namespaces is None or namespace in who.namespaces) and _seen_key(who, None) in (None, key)


def _row(state: ServerState, who: Principal, row_id: str) -> LoggedRequest:
    row = state.memory.request_log.get(row_id)
    if row is None or not _sees(who, row.namespace, row.actor):
        raise ApiError(404, f"no request {row_id!r} that this key can see", code="not_found")
    return row


def _edits(state: ServerState, rows: Sequence[LoggedRequest]) -> dict[str, Edit]:
    return _known(state, ((row.namespace, hit.id) for row in rows for hit in row.considered))


def _known(state: ServerState, wanted: Iterable[tuple[str, str]]) -> dict[str, Edit]:
    """Those of the edits, by namespace and id, that are still in the store."""
    spaces: dict[str, list[str]] = {}
    for namespace, edit_id in dict.fromkeys(wanted):
        spaces.setdefault(namespace, []).append(edit_id)
    return {edit.id: edit for namespace, ids in spaces.items() for edit in state.memory.known(ids, namespace=namespace)}
