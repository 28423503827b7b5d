"""Bodies of ``/v1/responses``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from memedit.server.schemas.common import Out, ProvenanceOut
from memedit.server.schemas.openai import MemeditIn

Item = dict[str, JsonValue]


class ResponsesIn(BaseModel):
    """A question, or the items of a talk; ``previous_response_id`` goes on from an answer that was stored."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), allow_inf_nan=False)

    input: Annotated[str, Field(min_length=1)] | Annotated[list[Item], Field(min_length=1, max_length=10_000)]
    model: str = Field(default="", max_length=500)
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, max_length=200)
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    stream: bool | None = None
    store: bool | None = None
    text: dict[str, JsonValue] | None = None
    tools: list[dict[str, JsonValue]] | None = Field(default=None, max_length=128)
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Annotated[str, Field(max_length=512)]] | None = Field(default=None, max_length=16)
    user: str | None = None
    memedit: MemeditIn = Field(default_factory=MemeditIn)


class ResponseOut(Out):
    """An answer: messages and calls of tools in ``output``."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    model: str
    output: list[dict[str, Any]]
    previous_response_id: str | None
    store: bool
    usage: dict[str, Any] | None
    memedit: ProvenanceOut | None = None


class ResponseDeleted(Out):
    """A stored answer is gone."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ResponseItems(Out):
    """The items that an answer was given to, the newest first unless asked otherwise."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
