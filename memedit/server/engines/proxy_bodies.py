"""What goes to an upstream engine, with edits stated in the prompt, and what its answers mean.

The wording is the in-context adapter's. That adapter inserts tokens, so an edit's text can never become a control
token; here the upstream tokenises, and most engines read control tokens in any text. Spellings that look like one are
therefore taken apart in an edit's text before it is sent.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, cast

from memedit.adapters.in_context.layout import chat_note, completion_prefix
from memedit.runtime.asked import Asked, asked_of
from memedit.server.engines.base import GenerationRequest, Passed, Usage
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
_MOST_CHOICES = 10_000


def harmless(text: str) -> str:
    """Return ``text`` with what looks like a control token taken apart (``<|im_end|>`` becomes ``< |im_end| >``)."""
    return _CONTROL.sub(lambda found: f" {found.group()}" if found.group() == ">" else f"{found.group()} ", text)


def asked_text(request: GenerationRequest) -> Asked | None:
    """Return what is looked up: the last user turn of a chat in its talk, or the prompt; None when it is token ids."""
    if isinstance(request.prompt, str):
        return Asked(request.prompt, chains=request.chains)
    if not request.chat:
        return None
    asked = asked_of([{"role": m["role"], "content": m.get("content") or ""} for m in _messages(request)])
    return replace(asked, chains=request.chains)


def request_body(request: GenerationRequest, edits: Sequence[Edit], *, model: str, note_role: NoteRole) -> bytes:
    """Return the upstream's body for a request on which ``edits`` fire.

    It is what the client sent, byte for byte where nothing is to be changed in it.
    """
    body: dict[str, Any] = json.loads(request.sent)
    changed = body.pop("memedit", None) is not None
    if not body.get("model"):
        body["model"], changed = model, True
    if request.chat and edits:
        body["messages"], changed = with_edits(body["messages"], edits, note_role), True
    elif not request.chat and (edits or not request.alone):
        prefix = completion_prefix(_stated(edits)) if edits else ""
        prompt = request.prompt
        body["prompt"], changed = prefix + prompt if isinstance(prompt, str) else list(prompt), True
    return json.dumps(body, separators=(",", ":")).encode() if changed else request.sent


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


def passed(chunk: Mapping[str, Any], *, chat: bool) -> Passed:
    """Return one chunk of a stream as it is passed on.

    Raises:
        ApiError: 502, it is no chunk.
    """
    for choice in _choices(chunk.get("choices", [])):
        _expect(not chat or isinstance(choice.get("delta", {}), Mapping), "a choice without a delta")
        _expect(chat or isinstance(choice.get("text", ""), str), "a choice without text")
    usage = chunk.get("usage")
    return Passed(chunk, usage_of(chunk) if isinstance(usage, Mapping) else None)


def checked_body(body: Mapping[str, Any], *, chat: bool) -> Mapping[str, Any]:
    """Return a whole response that can be passed on.

    Raises:
        ApiError: 502, it is none.
    """
    choices = _choices(body.get("choices"))
    _expect(bool(choices), "no choices")
    for choice in choices:
        _expect(not chat or isinstance(choice.get("message"), Mapping), "a choice without a message")
        _expect(chat or isinstance(choice.get("text"), str), "a choice without text")
    return body


def ended(chunk: Mapping[str, Any]) -> dict[int, bool]:
    """Return which choices a checked chunk is about, and whether each ends with it."""
    return {choice.get("index") or 0: choice.get("finish_reason") is not None for choice in chunk.get("choices") or ()}


def usage_of(body: Mapping[str, Any]) -> Usage:
    """Return the tokens that the upstream counted, those that edits added included; zeros when it counts none."""
    usage = body.get("usage")
    found = usage if isinstance(usage, Mapping) else {}
    return Usage(_count(found.get("prompt_tokens")), _count(found.get("completion_tokens")))


def _choices(found: Any) -> list[Mapping[str, Any]]:
    choices: list[Any] = [] if found is None else found
    _expect(isinstance(choices, list) and all(isinstance(choice, Mapping) for choice in choices), "choices of no list")
    for choice in choices:
        index = choice.get("index", 0)
        _expect(type(index) is int and 0 <= index < _MOST_CHOICES, "a choice without a number")
        _expect(isinstance(choice.get("finish_reason"), str | None), "a choice with no reason to end")
    return choices


def _expect(held: bool, what: str) -> None:
    if not held:
        raise ApiError(502, f"the upstream engine sent a response of another shape: {what}", code="upstream_error")


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0
