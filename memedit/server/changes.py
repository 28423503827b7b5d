"""One change by a client: on whose behalf, at which version, and at most once for each idempotency key."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from memedit.errors import RepeatedRequestError
from memedit.memory import Actor, AnsweredRequest
from memedit.server.auth import Access
from memedit.server.problems import ApiError
from memedit.server.schemas.edits import EditOut
from memedit.server.state import ServerState, server_state
from memedit.types import Edit

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A request with a key that came before is not done again: it gets the earlier answer.",
    ),
]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=200, description="ETag of the version that the change is for."),
]


def etag(edit: Edit) -> str:
    """Return the entity tag of a version of an edit."""
    return f'"{edit.version}"'


def expected_version(if_match: str | None) -> int | None:
    """Return the version that an If-Match header names; None for no header or ``*``.

    Raises:
        ApiError: 412, it names something that is no version.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().strip('"')
    if not text.isdecimal() or len(text) > 9:
        raise ApiError(412, f"If-Match {if_match!r} is the ETag of no version of this edit", code="edit_changed")
    return int(text)


def edit_response(edit: Edit, status: int = 200) -> JSONResponse:
    """Return an edit as a response, with its ETag."""
    return reply(EditOut.of(edit), status, {"ETag": etag(edit)})


def reply(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a body as a response."""
    return JSONResponse(body.model_dump(mode="json"), status, dict(headers or {}))


class ClientChange:
    """Makes a client's change once.

    Without an idempotency key it is simply made. With one, the change and the mark that it was made are one
    transaction; the answer is kept afterwards. A repeated request gets the kept answer; where the server died between
    the two, an answer made from the change log.

    Args:
        state: the server.
        request: what the client sent.
        digest: of the request's body.
        key: the idempotency key, if any.
    """

    def __init__(self, state: ServerState, request: Request, digest: str, key: str | None) -> None:
        self._state, self._key = state, key
        self._request_id: str = request.state.request_id
        self._path = request.url.path
        query = sorted(pair for pair in request.query_params.multi_items() if pair[0] != "namespace")
        self._asked = [request.method, request.url.path, query, request.headers.get("if-match"), digest]

    def make(self, access: Access, change: Callable[[], Response], *, status: int = 200) -> Response:
        """Call ``change`` on behalf of who has access unless it was made already; return the answer.

        ``status`` is that of an answer made from the change log.

        Raises:
            ApiError: 409, the key belongs to another request.
            RepeatedRequestError: the same request is being worked on.
        """
        who = access.who.name
        if self._key is None:
            with self._state.memory.as_actor(Actor(who, self._request_id)):
                return change()
        # all that decides the outcome: the namespace may stand in a header, or follow from the key
        text = json.dumps([access.namespace, *self._asked])
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        mine = (who, self._key)
        with self._state.lock:
            if mine in self._state.under_way:
                raise RepeatedRequestError(self._key)
            self._state.under_way.add(mine)
        try:
            return self._once(who, self._key, fingerprint, change, status)
        finally:
            with self._state.lock:
                self._state.under_way.discard(mine)

    def _once(self, who: str, key: str, fingerprint: str, change: Callable[[], Response], status: int) -> Response:
        memory = self._state.memory
        before = memory.requests.find(who, key)
        if before is not None and before.fingerprint != fingerprint:
            message = f"the idempotency key {key!r} was used for another request; make a new key for each change"
            raise ApiError(409, message, code="idempotency_key_reused")
        if before is not None and before.status is not None:
            return _kept(before)
        if before is not None and (found := self._from_log(before, status)) is not None:
            response = found
        elif before is not None:  # made without its mark being needed again: adding what is there changes nothing
            with memory.as_actor(Actor(who, self._request_id)):
                response = change()
        else:
            with memory.as_actor(Actor(who, self._request_id, key, fingerprint)):
                response = change()
        kept = {"body": bytes(response.body).decode(), "etag": response.headers.get("etag")}
        memory.requests.answered(who, key, fingerprint, response.status_code, json.dumps(kept))
        return response

    def _from_log(self, before: AnsweredRequest, status: int) -> Response | None:
        """Answer with the version of the edit that the change made; None when it was a change of many."""
        if before.revision is None:
            return None
        entries = self._state.memory.audit(before=before.revision + 1, limit=1)
        many = any(part in self._path for part in ("/batch", "/import", "/conflicts/", "/withdraw"))
        if not entries or entries[0].after is None or many:
            return None
        return edit_response(entries[0].after, status)


def _kept(before: AnsweredRequest) -> Response:
    kept: dict[str, Any] = json.loads(before.body or "{}")
    headers = {"Idempotency-Replayed": "true"} | ({"ETag": kept["etag"]} if kept.get("etag") else {})
    return Response(kept.get("body", ""), before.status or 200, headers, media_type="application/json")


async def client_change(request: Request, idempotency_key: IdempotencyKey = None) -> ClientChange:
    """Return the change that a request with a JSON body asks for."""
    digest = hashlib.sha256(await request.body()).hexdigest()
    return ClientChange(server_state(request), request, digest, idempotency_key)


Once = Annotated[ClientChange, Depends(client_change)]
