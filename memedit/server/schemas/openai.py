"""Bodies of the OpenAI-compatible routes. Fields that are not listed are handed to the engine, not refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from memedit.server.schemas.common import In, Out, ProvenanceOut
from memedit.types import ChainPolicy

Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
StopString = Annotated[str, Field(min_length=1, max_length=500)]
Prompt = Annotated[str, Field(min_length=1)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class MemeditIn(In):
    """What memedit adds: the namespace; ``edits`` false asks the bare model; ``detail`` shows candidates.

    ``chains`` is the policy of look-up along chains of edits for this request; null is the server's.
    """

    namespace: str | None = Field(default=None, min_length=1, max_length=255)
    edits: bool = True
    detail: bool = False
    chains: ChainPolicy | None = None


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class SamplingIn(BaseModel):
    """What both kinds of request share. ``top_k``, ``repetition_penalty`` and ``ignore_eos`` are as in vLLM."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), allow_inf_nan=False)

    model: str = Field(default="", max_length=500)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=10.0)
    logit_bias: dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]] | None = Field(default=None, max_length=1_024)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int | None = Field(default=None, ge=1, le=32)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    user: str | None = None
    memedit: MemeditIn = Field(default_factory=MemeditIn)


class ChatMessage(BaseModel):
    """One message of a chat; ``content`` is text or a list of typed parts."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, JsonValue]] | None = None


class ChatIn(SamplingIn):
    """A chat to be answered."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class CompletionIn(SamplingIn):
    """Text to be continued: one prompt, several, or token ids."""

    prompt: (
        Prompt
        | TokenIds
        | Annotated[list[Prompt], Field(min_length=1, max_length=256)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=256)]
    )
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


class UsageOut(Out):
    """Tokens of the caller's prompt, and of the answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(Out):
    """A token that could have stood here."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer, with the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Out):
    """Log probabilities of an answer's tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(Out):
    """The model's message."""

    model_config = ConfigDict(extra="allow")

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None


class ChatChoice(Out):
    """One answer to a chat."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatOut(Out):
    """The answers to a chat."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageOut
    memedit: ProvenanceOut


class TextLogprobs(Out):
    """Log probabilities of a completion's tokens, as lists in step with one another."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Out):
    """One continuation."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: str


class CompletionOut(Out):
    """The continuations of all prompts, ``n`` each. ``memedit`` is a list when there is more than one prompt."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageOut
    memedit: ProvenanceOut | list[ProvenanceOut]


class ModelOut(Out):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Out):
    """The models that can be asked for."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


Json = dict[str, Any]
