"""Vectors of texts, as the memory's encoder makes them."""

import base64
import uuid

import numpy as np
from fastapi import APIRouter, Request

from memedit.server.auth import Generator, chosen_namespace
from memedit.server.engines.base import GenerationRequest, Sampling, Usage
from memedit.server.problems import ApiError
from memedit.server.schemas.common import responses
from memedit.server.schemas.embeddings import EmbeddingOut, EmbeddingsIn, EmbeddingsOut, EmbeddingUsage
from memedit.server.state import server_state
from memedit.server.streams import unless_gone
from memedit.types import FloatArray

router = APIRouter(prefix="/v1", tags=["openai"])


@router.post("/embeddings", operation_id="create_embeddings", responses=responses(404, 504))
async def embed(request: Request, who: Generator, body: EmbeddingsIn) -> EmbeddingsOut:
    """Return the vectors of one text or several."""
    state = server_state(request)
    texts = _texts(body)
    space = chosen_namespace(who, None, state.settings.namespace)
    state.quotas.admit(who, space, tokens=True)
    encoder = await state.embedder.encoder(who.name)
    if body.model not in ("", encoder.name):
        message = f"the model {body.model!r} makes no vectors here; the memory's encoder is {encoder.name!r}"
        raise ApiError(404, message, code="model_not_found", param="model")
    if body.dimensions not in (None, encoder.dimension):
        message = f"the vectors of {encoder.name!r} have {encoder.dimension} dimensions, and cannot be cut"
        raise ApiError(400, message, code="invalid_value", param="dimensions")
    within = state.deadlines.within(state.settings.request_timeout)
    asked = GenerationRequest(uuid.uuid4().hex, "\n".join(texts), space, Sampling(), model=encoder.name, edits=False)
    with state.observer.noted(request, asked) as note:
        vectors, tokens = await unless_gone(request, state.embedder.embed(who.name, texts), within)
        note.usage = Usage(tokens, 0)
    state.metrics.used(note.usage)
    data = [
        EmbeddingOut(index=number, embedding=_written(vector, body.encoding_format))
        for number, vector in enumerate(vectors)
    ]
    return EmbeddingsOut(data=data, model=encoder.name, usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens))


def _texts(body: EmbeddingsIn) -> list[str]:
    given = [body.input] if isinstance(body.input, str) else body.input
    texts = [one for one in given if isinstance(one, str)]
    if len(texts) < len(given):
        message = "token ids are of another tokenizer than the encoder's; send text"
        raise ApiError(400, message, code="unsupported_parameter", param="input")
    return texts


def _written(vector: FloatArray, form: str | None) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(vector.astype(np.dtype("<f4")).tobytes()).decode()
    return [float(value) for value in vector]
