"""What the server asks of whatever answers: requests in, events out."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from memedit.types import ChainPolicy, Hit, ScopeDecision

Messages = tuple[Mapping[str, Any], ...]
"""A chat, as the client sent it: mappings with role and content."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; defaults as in OpenAI's API.

    ``temperature`` 0 decodes greedily. ``max_tokens`` None leaves it to the engine. ``logprobs`` None returns none, k
    the k likeliest alternatives of each token beside its own. ``ignore_eos`` goes on to ``max_tokens``.
    ``repetition_penalty`` is Hugging Face's (CTRL, arXiv 1909.05858), over prompt and answer; ``presence_penalty`` and
    ``frequency_penalty`` are OpenAI's, over the answer. Equal seeds give equal answers to equal prompts.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to be answered.

    ``prompt`` is text to continue, its token ids, or a chat. With ``edits`` False the bare model answers; ``chains`` is
    the policy of look-up along chains of edits, None for the server's. ``extra`` are fields of the client's body that
    the server itself does not read (tools, response_format ...): an engine that cannot honour one of them refuses the
    request. ``sent`` is the body as it came, for engines that pass it on; with ``alone`` False the prompt is one of
    several in it. ``who`` asks: those who ask have their turns.
    """

    id: str
    prompt: str | tuple[int, ...] | Messages
    namespace: str
    sampling: Sampling
    model: str = ""
    edits: bool = True
    chains: ChainPolicy | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    sent: bytes = b"{}"
    alone: bool = True
    who: str = ""

    @property
    def chat(self) -> bool:
        """Whether the prompt is a chat."""
        return not isinstance(self.prompt, str) and not (self.prompt and isinstance(self.prompt[0], int))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Why an answer came out as it did.

    ``revision`` is the memory's when the prompt was looked up: every edit up to it was in force. ``adapter`` is None
    for the bare model's answer. ``decision`` is None when nothing was looked up (edits off). ``version`` names the
    version of consolidated edits whose weights answered, None is the plain base.
    """

    namespace: str
    revision: int
    adapter: str | None
    decision: ScopeDecision | None
    version: str | None = None

    @property
    def fired(self) -> tuple[Hit, ...]:
        """The edits in force for this answer, best first."""
        return self.decision.fired if self.decision is not None and self.adapter is not None else ()


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token as text, its log probability (nats), and the likeliest tokens in its place with theirs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """The first event: the prompt has been looked up. With ``passes`` an upstream's chunks follow, as Passed."""

    provenance: Provenance
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """More of choice ``index``."""

    index: int
    text: str
    tokens: tuple[TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class CallPiece:
    """More of tool call ``number`` of choice ``index``: first its id and name, then its arguments as JSON text."""

    index: int
    number: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Choice ``index`` is complete; ``reason`` is "stop", "length" or "tool_calls"."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The last event. Tokens of the caller's prompt (not of what an edit added), and of all choices."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Passed:
    """A chunk of an upstream's stream, to be passed on as it is; ``usage`` where it has the counts."""

    body: Mapping[str, Any]
    usage: Usage | None = None


Event = Started | Piece | CallPiece | Ended | Usage | Passed
"""In order: one Started; then, for each choice, Pieces, CallPieces and one Ended, choices interleaved; one Usage. Or,
where the chunks are an upstream's, one Started and any number of Passed."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; ``arguments`` are JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One complete answer: text, or calls of tools, or both."""

    index: int
    text: str
    reason: str
    tokens: tuple[TokenScore, ...] = ()
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """All choices of one request. ``body`` is an upstream's, to be passed on as it is; ``choices`` are empty then."""

    provenance: Provenance
    choices: tuple[Choice, ...]
    usage: Usage
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model by the name clients ask for it; ``created`` is a Unix time."""

    name: str
    created: int
    owner: str = "memedit"


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Requests that wait, and rows that are being generated now."""

    waiting: int
    running: int


class Engine(Protocol):
    """Answers requests with the edits of their namespace in force.

    An engine looks prompts up itself, after the request has reached it: an edit acknowledged before a request began
    is in force for it. Errors are :class:`~memedit.server.problems.ApiError` or memedit's own. Closing the iterator
    of :meth:`stream`, or cancelling :meth:`complete`, ends the work at the next token.
    """

    async def start(self) -> None:
        """Get ready to answer; called once, before any request."""

    async def stop(self, *, drain: float) -> None:
        """Finish what is under way within ``drain`` seconds, drop the rest, and release everything."""

    async def problem(self) -> str | None:
        """Return why requests cannot be answered now, None when they can."""

    async def models(self) -> Sequence[EngineModel]:
        """Return the models that can be asked for, the default one first."""

    def stream(self, request: GenerationRequest) -> AsyncIterator[Event]:
        """Answer piece by piece; the events come in the order of :data:`Event`."""

    async def complete(self, request: GenerationRequest) -> Completion:
        """Answer as a whole."""

    def load(self) -> EngineLoad:
        """Return how busy it is."""


async def collect(events: AsyncIterator[Event], n: int) -> Completion:
    """Gather the events of ``n`` choices; for engines whose :meth:`Engine.complete` has no way of its own."""
    started: Started | None = None
    usage = Usage(0, 0)
    texts: list[list[str]] = [[] for _ in range(n)]
    tokens: list[list[TokenScore]] = [[] for _ in range(n)]
    calls: list[dict[int, ToolCall]] = [{} for _ in range(n)]
    reasons = ["stop"] * n
    async for event in events:
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Piece):
            texts[event.index].append(event.text)
            tokens[event.index].extend(event.tokens)
        elif isinstance(event, CallPiece):
            before = calls[event.index].get(event.number, ToolCall(event.id or "", event.name or "", ""))
            calls[event.index][event.number] = replace(before, arguments=before.arguments + event.arguments)
        elif isinstance(event, Ended):
            reasons[event.index] = event.reason
        elif isinstance(event, Usage):
            usage = event
    assert started is not None  # the protocol's first event
    choices = tuple(
        Choice(i, "".join(texts[i]), reasons[i], tuple(tokens[i]), tuple(calls[i].values())) for i in range(n)
    )
    return Completion(started.provenance, choices, usage)
