"""What goes to an upstream engine, with edits stated in the prompt, and what its answers mean.

The wording is the in-context adapter's. That adapter inserts tokens, so an edit's text can never become a control
token; here the upstream tokenises, and most engines read control tokens in any text. Spellings that look like one are
therefore taken apart in an edit's text before it is sent.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, cast

from memedit.adapters.in_context.layout import chat_note, completion_prefix
from memedit.runtime.asked import Asked, asked_of
from memedit.server.engines.base import Choice, Ended, Event, GenerationRequest, Piece, Sampling, TokenScore, Usage
from memedit.server.problems import ApiError
from memedit.types import Edit

NoteRole = Literal["system", "user"]
MAX_EDITS = 8
"""At most so many edits are stated, the best first."""

_CONTROL = re.compile(
    r"<(?=[|｜])|(?<=[|｜])>|<(?=/?(?:s|bos|eos|pad|unk|mask|cls|sep|think|tool_call|tool_response|image|audio|video"
    r"|(?:start|end)_of_\w+|start_header_id|end_header_id)>)|<(?=<?/?SYS>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS"
    r"|TOOL_RESULTS|TOOL_CALLS|gMASK|MASK|CLS|SEP|PAD|UNK)\])",
    re.IGNORECASE,
)
_DEFAULT = Sampling()
_PLAIN = (
    "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "n",
    "max_tokens", "ignore_eos",
)  # fmt: skip
_MESSAGE_FIELDS = frozenset({"role", "content", "refusal"})


def harmless(text: str) -> str:
    """Return ``text`` with what looks like a control token taken apart (``<|im_end|>`` becomes ``< |im_end| >``)."""
    return _CONTROL.sub(lambda found: f" {found.group()}" if found.group() == ">" else f"{found.group()} ", text)


def asked_text(request: GenerationRequest) -> Asked | None:
    """Return what is looked up: the last user turn of a chat in its talk, or the prompt; None when it is token ids."""
    if isinstance(request.prompt, str):
        return Asked(request.prompt)
    if not request.chat:
        return None
    return asked_of([{"role": m["role"], "content": m.get("content") or ""} for m in _messages(request)])


def request_body(
    request: GenerationRequest, edits: Sequence[Edit], *, model: str, stream: bool, note_role: NoteRole
) -> dict[str, Any]:
    """Return the upstream's body for a request on which ``edits`` fire. Sampling at its defaults is left unsaid."""
    body = dict(request.extra) | {"model": model} | _sampling(request.sampling, chat=request.chat)
    if request.chat:
        body["messages"] = with_edits(_messages(request), edits, note_role)
    else:
        prefix = completion_prefix(_stated(edits)) if edits else ""
        body["prompt"] = prefix + request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _messages(request: GenerationRequest) -> Sequence[Mapping[str, Any]]:
    return cast(Sequence[Mapping[str, Any]], request.prompt)


def with_edits(messages: Sequence[Mapping[str, Any]], edits: Sequence[Any], role: NoteRole) -> list[dict[str, Any]]:
    """Return a chat with ``edits`` (best first; prompt, target and kind are read) stated in it."""
    plain = [dict(message) for message in messages]
    return _with_note(plain, chat_note(_stated(edits)), role) if edits else plain


def _stated(edits: Sequence[Any]) -> list[Edit]:
    """The edits that are stated, their text without control tokens."""
    tame = [
        SimpleNamespace(prompt=harmless(edit.prompt), target=harmless(edit.target), kind=edit.kind)
        for edit in edits[:MAX_EDITS]
    ]
    return cast(list[Edit], tame)


def _sampling(sampling: Sampling, *, chat: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        name: getattr(sampling, name) for name in _PLAIN if getattr(sampling, name) != getattr(_DEFAULT, name)
    }
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs} if chat else {"logprobs": sampling.logprobs}
    return body


def _with_note(messages: list[dict[str, Any]], note: str, role: NoteRole) -> list[dict[str, Any]]:
    """Put the note at the end of the system message (a new one where there is none), or before the last question."""
    if role == "system":
        if messages and messages[0]["role"] in ("system", "developer"):
            return [_joined(messages[0], note, after=True), *messages[1:]]
        return [{"role": "system", "content": note}, *messages]
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    at = users[-1] if users else len(messages) - 1
    return [*messages[:at], _joined(messages[at], note, after=False), *messages[at + 1 :]]


def _joined(message: dict[str, Any], note: str, *, after: bool) -> dict[str, Any]:
    content = message.get("content") or ""
    if isinstance(content, str):
        return message | {"content": f"{content}\n\n{note}" if after and content else f"{note}\n\n{content}".rstrip()}
    part = {"type": "text", "text": note}
    return message | {"content": [*content, part] if after else [part, *content]}


def chunk_events(chunk: Mapping[str, Any], *, chat: bool) -> Iterator[Event]:
    """Yield the events of one streamed chunk."""
    for choice in chunk.get("choices") or ():
        index = int(choice.get("index") or 0)
        delta = (choice.get("delta") or {}) if chat else {"content": choice.get("text")}
        text, extra = delta.get("content") or "", _extra(delta)
        tokens = _scores(choice.get("logprobs"), chat=chat)
        if text or extra or tokens:
            yield Piece(index, text, tokens, extra)
        if choice.get("finish_reason"):
            yield Ended(index, str(choice["finish_reason"]))
    if chunk.get("usage"):
        yield usage_of(chunk)


def choices_of(body: Mapping[str, Any], *, chat: bool) -> tuple[Choice, ...]:
    """Return the answers of a whole response.

    Raises:
        ApiError: 502, it has none.
    """
    found = []
    for number, choice in enumerate(body.get("choices") or ()):
        message = (choice.get("message") or {}) if chat else {"content": choice.get("text")}
        found.append(
            Choice(
                index=int(choice.get("index") or number),
                text=message.get("content") or "",
                reason=str(choice.get("finish_reason") or "stop"),
                tokens=_scores(choice.get("logprobs"), chat=chat),
                extra=_extra(message),
            )
        )
    if not found:
        raise ApiError(502, "the upstream engine sent a response without choices", code="upstream_error")
    return tuple(found)


def usage_of(body: Mapping[str, Any]) -> Usage:
    """Return the tokens that the upstream counted, those that edits added included; zeros when it counts none."""
    usage = body.get("usage") or {}
    return Usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


def _extra(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in _MESSAGE_FIELDS and value is not None}


def _scores(logprobs: Any, *, chat: bool) -> tuple[TokenScore, ...]:
    if not isinstance(logprobs, Mapping):
        return ()
    if chat:
        return tuple(
            TokenScore(
                str(item.get("token", "")),
                float(item.get("logprob", 0.0)),
                tuple((str(top["token"]), float(top["logprob"])) for top in item.get("top_logprobs") or ()),
            )
            for item in logprobs.get("content") or ()
        )
    tokens, values = logprobs.get("tokens") or (), logprobs.get("token_logprobs") or ()
    tops = logprobs.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        TokenScore(str(token), float(value or 0.0), tuple((str(k), float(v)) for k, v in (top or {}).items()))
        for token, value, top in zip(tokens, values, tops, strict=False)
    )
