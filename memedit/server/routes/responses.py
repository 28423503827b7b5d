"""OpenAI's Responses API: answers that can be stored, read again and gone on from."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from memedit.server.auth import Generator, Principal, chosen_namespace
from memedit.server.engines.base import GenerationRequest, Sampling
from memedit.server.min_revision import awaited_revision
from memedit.server.problems import ApiError
from memedit.server.responses.answering import respond
from memedit.server.responses.keeping import keep, no_response, stored_response
from memedit.server.responses.reading import Item, as_messages, engine_fields, new_items
from memedit.server.routes.openai import NamespaceHeader, known_model, shown_for
from memedit.server.schemas.common import EVENT, responses
from memedit.server.schemas.responses import ResponseDeleted, ResponseItems, ResponseOut, ResponsesIn
from memedit.server.state import ServerState, server_state

router = APIRouter(prefix="/v1/responses", tags=["openai"])

_STREAM = {"text/event-stream": {"schema": EVENT, "example": "event: response.created\ndata: {...}\n\n"}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, or a stream of its events.", "content": _STREAM},
    **responses(404, 502, 504),
}
ResponseId = Annotated[str, Path(max_length=200)]


@router.post(
    "",
    operation_id="create_response",
    response_model=ResponseOut,
    responses=_ANSWERS,
    dependencies=[Depends(awaited_revision)],
)
async def create(request: Request, who: Generator, body: ResponsesIn, namespace: NamespaceHeader = None) -> Response:
    """Answer with the edits of the namespace in force, and store the answer unless told otherwise."""
    state = server_state(request)
    model = await known_model(state.engine, body.model)
    before, space = await _before(state, who, body, namespace)
    fields = engine_fields(body)
    items = [*before, *new_items(body)]
    messages = as_messages(items, body.instructions)
    asked = GenerationRequest(
        id=uuid.uuid4().hex,
        prompt=tuple(messages),
        namespace=space,
        sampling=Sampling(
            max_tokens=body.max_output_tokens,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
        ),
        model=model,
        edits=body.memedit.edits,
        chains=body.memedit.chains,
        extra=fields,
        who=who.name,
        sent=_sent(body, model, messages, fields),
    )
    kept = _Keeping(state, who, space, items, body.store is not False)
    head = _head(body, model, fields)
    shown = shown_for(state, who, body.memedit)
    return await respond(request, state, asked, head=head, shown=shown, keep=kept.keep, stream=body.stream is True)


@router.get("/{response_id}", operation_id="get_response", response_model=ResponseOut, responses=responses(404))
async def get(
    request: Request,
    who: Generator,
    response_id: ResponseId,
    stream: Annotated[bool, Query(description="Not supported: an answer is stored as a whole.")] = False,
) -> Response:
    """Return an answer that this key was given."""
    if stream:
        raise ApiError(400, "a stored response cannot be streamed", code="unsupported_parameter", param="stream")
    found = await stored_response(server_state(request), who, response_id)
    return Response(found.body, media_type="application/json")


@router.get("/{response_id}/input_items", operation_id="list_response_items", responses=responses(404))
async def list_items(
    request: Request,
    who: Generator,
    response_id: ResponseId,
    *,
    after: Annotated[str | None, Query(max_length=200, description="Id of the item before the page.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
) -> ResponseItems:
    """List the items that an answer was given to."""
    items = json.loads((await stored_response(server_state(request), who, response_id)).items)
    items = items if order == "asc" else items[::-1]
    start = next((number + 1 for number, item in enumerate(items) if item["id"] == after), 0)
    page = items[start : start + limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return ResponseItems(data=page, first_id=first, last_id=last, has_more=start + limit < len(items))


@router.delete("/{response_id}", operation_id="delete_response", responses=responses(404))
async def delete(request: Request, who: Generator, response_id: ResponseId) -> ResponseDeleted:
    """Delete an answer that this key was given."""
    state = server_state(request)
    found = await stored_response(state, who, response_id)
    if not await state.changes.run(who.name, lambda: state.memory.responses.delete(who.name, found.id)):
        raise no_response(response_id)
    return ResponseDeleted(id=found.id)


@dataclass(frozen=True, slots=True)
class _Keeping:
    """Stores an answer with the talk that led to it, where that is wanted."""

    state: ServerState
    who: Principal
    namespace: str
    items: list[Item]
    wanted: bool

    async def keep(self, body: dict[str, Any]) -> bool:
        return self.wanted and await keep(self.state, self.who, self.namespace, body, self.items)


async def _before(state: ServerState, who: Principal, body: ResponsesIn, header: str | None) -> tuple[list[Item], str]:
    """Return the talk that a request goes on from, and its namespace: the talk's own unless it names one."""
    named = body.memedit.namespace if body.memedit.namespace is not None else header
    items: list[Item] = []
    if body.previous_response_id:
        name = "previous_response_id"
        found = await stored_response(state, who, body.previous_response_id, param=name)
        if named not in (None, found.namespace):
            raise no_response(body.previous_response_id, name)  # edits of one namespace are no other's concern
        named = found.namespace
        items = [*json.loads(found.items), *json.loads(found.body)["output"]]
    space = chosen_namespace(who, named, state.settings.namespace)
    state.quotas.admit(who, space, tokens=True)
    return items, space


def _sent(body: ResponsesIn, model: str, messages: list[dict[str, Any]], fields: dict[str, Any]) -> bytes:
    """The chat request that an upstream is sent."""
    asked: dict[str, Any] = {"model": model, "messages": messages, **fields}
    asked |= {"temperature": body.temperature, "top_p": body.top_p, "max_tokens": body.max_output_tokens}
    if body.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps({name: value for name, value in asked.items() if value is not None}).encode()


def _head(body: ResponsesIn, model: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a response that say what was asked for."""
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "instructions": body.instructions,
        "previous_response_id": body.previous_response_id or None,
        "max_output_tokens": body.max_output_tokens,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "text": body.text or {"format": {"type": "text"}},
        "tools": body.tools or [],
        "tool_choice": body.tool_choice or "auto",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "metadata": body.metadata or {},
        "user": body.user,
        "background": False,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "truncation": "disabled",
        "store": body.store is not False,
    }
