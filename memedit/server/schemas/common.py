"""What several bodies share."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from memedit.zones import in_utc

Time = Annotated[datetime, AfterValidator(in_utc), Field(description="ISO 8601; without a time zone it is UTC.")]


class In(BaseModel):
    """Base of request bodies: a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class Out(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorDetail(Out):
    """What went wrong. Some codes bring further fields, such as the ids of two edits in conflict."""

    model_config = ConfigDict(extra="allow")

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Out):
    """The body of every response that is an error."""

    error: ErrorDetail


class FiredEdit(Out):
    """An edit and how well it fits a prompt: ``score`` in [0, 1] against the threshold, cosine ``similarity``.

    ``target_probability`` is the probability that its target itself is asked for; ``direct`` is its former
    name. ``prompt`` and ``target`` are null for a key that may not read edits.
    """

    id: str
    prompt: str | None
    target: str | None
    score: float
    similarity: float
    target_probability: float = 0.5
    direct: float = Field(0.5, deprecated=True)
    reasons: dict[str, float] = Field(default_factory=dict)


class ChainHopOut(Out):
    """One hop of a chain: what was asked and what the edit says, which is the subject of the next hop.

    ``id`` and ``value`` are empty where the model answers; ``question`` and ``value`` are null for a key that may not
    read edits.
    """

    id: str
    question: str | None
    value: str | None


class ProvenanceOut(Out):
    """Why an answer came out so. ``edits`` fired; ``considered`` were looked at; ``adapter`` null is the bare model.

    ``version`` names the version whose weights answered, null is the plain base; of the edits ``in_weights`` these know
    the answer themselves. ``chain`` holds the hops where a chain of edits answered, first to last.
    """

    namespace: str
    revision: int
    adapter: str | None
    version: str | None = None
    scope: str | None
    threshold: float | None
    abstained: bool = False
    edits: list[FiredEdit]
    in_weights: list[FiredEdit] = Field(default_factory=list)
    chain: list[ChainHopOut] = Field(default_factory=list)
    considered: list[FiredEdit] | None = None


EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
"""A server-sent event, as a schema."""


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of the errors that a route can answer with, beside those of every route."""
    every = (400, 401, 403, 412, 413, 429, 500, 503)
    return {status: {"model": ErrorBody, "description": _MEANINGS[status]} for status in (*every, *statuses)}


_MEANINGS = {
    400: "The request cannot be used; the message says what is wrong with it.",
    401: "No usable API key.",
    403: "The key has not the role or namespace that this needs.",
    404: "There is no such thing.",
    409: "It contradicts what is there, or the same request is being worked on.",
    412: "It has been changed since, or the memory has not come to the revision asked for.",
    413: "The body is too large.",
    429: "Too many requests; Retry-After says when to ask again.",
    500: "The server failed; its log says more.",
    502: "The engine behind this server failed.",
    503: "The memory or the model cannot be used right now.",
    504: "The request took too long.",
}
