"""The OpenAI-compatible routes."""

import time
import uuid
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import Response

from memedit.memory import Role
from memedit.server.answering import answer
from memedit.server.auth import Generator, Principal, chosen_namespace
from memedit.server.engines.base import Engine, GenerationRequest, Messages, Sampling
from memedit.server.min_revision import awaited_revision
from memedit.server.problems import ApiError
from memedit.server.rendering import ChatRenderer, Shown, TextRenderer
from memedit.server.schemas.common import EVENT, responses
from memedit.server.schemas.openai import (
    ChatIn,
    ChatOut,
    CompletionIn,
    CompletionOut,
    MemeditIn,
    ModelList,
    ModelOut,
    SamplingIn,
)
from memedit.server.state import ServerState, server_state

router = APIRouter(prefix="/v1", tags=["openai"])

NamespaceHeader = Annotated[
    str | None, Header(alias="X-Memedit-Namespace", max_length=255, description="Namespace of the edits to follow.")
]
_STREAM = {"text/event-stream": {"schema": EVENT, "example": "data: {...}\n\ndata: [DONE]\n\n"}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answers, or a stream of them.", "content": _STREAM},
    **responses(404, 502, 504),
}


@router.get("/models", operation_id="list_models", responses=responses(502))
async def list_models(request: Request, who: Generator) -> ModelList:
    """List the models that can be asked for."""
    return ModelList(data=[_model(model) for model in await server_state(request).engine.models()])


@router.get("/models/{model:path}", operation_id="get_model", responses=responses(404, 502))
async def get_model(request: Request, who: Generator, model: Annotated[str, Path(max_length=500)]) -> ModelOut:
    """Return one model."""
    for found in await server_state(request).engine.models():
        if found.name == model:
            return _model(found)
    raise _no_model(model)


@router.post(
    "/chat/completions",
    operation_id="create_chat_completion",
    response_model=ChatOut,
    responses=_ANSWERS,
    dependencies=[Depends(awaited_revision)],
)
async def chat(request: Request, who: Generator, body: ChatIn, namespace: NamespaceHeader = None) -> Response:
    """Answer a chat with the edits of its namespace in force."""
    state = server_state(request)
    model = await known_model(state.engine, body.model)
    messages: Messages = tuple(message.model_dump(exclude_unset=True) for message in body.messages)
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, 'top_logprobs needs "logprobs": true', code="invalid_value", param="top_logprobs")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    space = _namespace(state, who, body, namespace)
    sent = await request.body()
    asked = _request(body, messages, _sampling(body, limit, logprobs), space=space, model=model, sent=sent, who=who)
    shape = ChatRenderer(
        _id("chatcmpl"), model, int(time.time()), body.logprobs is True, shown_for(state, who, body.memedit)
    )
    return await answer(request, state, [asked], shape, stream=body.stream is True, usage=_with_usage(body))


@router.post(
    "/completions",
    operation_id="create_completion",
    response_model=CompletionOut,
    responses=_ANSWERS,
    dependencies=[Depends(awaited_revision)],
)
async def complete(request: Request, who: Generator, body: CompletionIn, namespace: NamespaceHeader = None) -> Response:
    """Continue one prompt or several, with the edits of their namespace in force."""
    state = server_state(request)
    model = await known_model(state.engine, body.model)
    sampling = _sampling(body, 16 if body.max_tokens is None else body.max_tokens, body.logprobs)
    space = _namespace(state, who, body, namespace)
    common: dict[str, Any] = {"space": space, "model": model, "sent": await request.body(), "who": who}
    prompts = _prompts(body)
    asked = [replace(_request(body, one, sampling, **common), alone=len(prompts) == 1) for one in prompts]
    logprobs = body.logprobs is not None
    shape = TextRenderer(
        _id("cmpl"), model, int(time.time()), logprobs, shown_for(state, who, body.memedit), sampling.n
    )
    return await answer(request, state, asked, shape, stream=body.stream is True, usage=_with_usage(body))


def _request(
    body: SamplingIn,
    prompt: str | tuple[int, ...] | Messages,
    sampling: Sampling,
    *,
    space: str,
    model: str,
    sent: bytes,
    who: Principal,
) -> GenerationRequest:
    return GenerationRequest(
        id=uuid.uuid4().hex,
        prompt=prompt,
        namespace=space,
        sampling=sampling,
        model=model,
        edits=body.memedit.edits,
        chains=body.memedit.chains,
        extra=_extra(body),
        sent=sent,
        who=who.name,
    )


def _namespace(state: ServerState, who: Principal, body: SamplingIn, header: str | None) -> str:
    asked = body.memedit.namespace if body.memedit.namespace is not None else header
    chosen = chosen_namespace(who, asked, state.settings.namespace)
    state.quotas.admit(who, chosen, tokens=True)
    return chosen


def shown_for(state: ServerState, who: Principal, asked: MemeditIn) -> Shown:
    """Return what of the edits a key may see: their texts are for those who may read edits."""
    detail = asked.detail
    return Shown(texts=state.settings.show_edits or who.may(Role.READ), reasons=detail, considered=detail)


def _with_usage(body: SamplingIn) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _extra(body: SamplingIn) -> dict[str, Any]:
    """Fields that the routes do not read themselves."""
    extra = dict(body.model_extra or {})
    extra |= {name: getattr(body, name) for name in ("echo", "suffix", "best_of") if hasattr(body, name)}
    if body.stream_options is not None and body.stream_options.model_extra:
        extra["stream_options"] = body.stream_options.model_extra
    return {name: value for name, value in extra.items() if value is not None}


def _sampling(body: SamplingIn, limit: int | None, logprobs: int | None) -> Sampling:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return Sampling(
        max_tokens=limit,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=body.top_k,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        logit_bias=_bias(body.logit_bias),
        seed=body.seed,
        n=body.n or 1,
        stop=tuple(stop),
        logprobs=logprobs,
        ignore_eos=body.ignore_eos,
    )


def _bias(given: dict[str, float] | None) -> dict[int, float]:
    try:
        return {int(token): value for token, value in (given or {}).items()}
    except ValueError as error:
        raise ApiError(400, f"logit_bias: its keys are token ids ({error})", param="logit_bias") from error


def _prompts(body: CompletionIn) -> list[str | tuple[int, ...]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    return [one if isinstance(one, str) else tuple(one) for one in prompt]


async def known_model(engine: Engine, name: str) -> str:
    """Return the model that a request is for.

    Raises:
        ApiError: 404, there is no such model; 502, there is none at all.
    """
    models = await engine.models()
    if not models:
        raise ApiError(502, "the engine behind this server offers no model", code="upstream_error")
    if not name:
        return models[0].name
    if all(model.name != name for model in models):
        raise _no_model(name)
    return name


def _no_model(name: str) -> ApiError:
    return ApiError(404, f"the model {name!r} does not exist here", code="model_not_found", param="model")


def _model(model: Any) -> ModelOut:
    return ModelOut(id=model.name, created=model.created, owned_by=model.owner)


def _id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex}"
