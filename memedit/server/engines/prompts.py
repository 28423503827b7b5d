"""From what a client asks to what the runtime takes."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from memedit.adapters.base import Row
from memedit.runtime.rows import Prompt, prompt_row
from memedit.server.engines.base import GenerationRequest
from memedit.server.engines.toolbox import Toolbox, shows_tools, told_in_text
from memedit.server.engines.unsupported import check_message
from memedit.server.problems import ApiError

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_ROLES |= {"tool": "tool", "function": "tool"}


def local_prompt(tokenizer: Any, request: GenerationRequest, toolbox: Toolbox | None = None) -> tuple[Prompt, Row]:
    """Return the prompt as the runtime takes it, and its tokens; a chat shows the tools of ``toolbox``.

    Raises:
        ApiError: 400, a role or a kind of content that a text model cannot take.
        InputError: empty, a chat for a model without a chat template, or one that its template refuses.
    """
    if isinstance(request.prompt, str):
        return request.prompt, prompt_row(tokenizer, request.prompt)
    if not request.chat:
        return _from_ids(tokenizer, tuple(request.prompt))  # type: ignore[arg-type]
    messages = [_message(message, i) for i, message in enumerate(request.prompt)]  # type: ignore[arg-type]
    if shows_tools(tokenizer, offered=toolbox is not None):
        row = prompt_row(tokenizer, messages, tools=None if toolbox is None else [dict(one) for one in toolbox.shown])
        return row, row
    if toolbox is None and not any(message["role"] == "tool" or "tool_calls" in message for message in messages):
        row = prompt_row(tokenizer, messages)
        return row, row
    shown = prompt_row(tokenizer, told_in_text(messages, toolbox))
    asked = [message for message in messages if message["role"] == "user"]
    row = replace(shown, messages=messages, text=(asked or messages)[-1]["content"])  # what is asked is the user's
    return row, row


def _from_ids(tokenizer: Any, ids: tuple[int, ...]) -> tuple[Prompt, Row]:
    size = len(tokenizer)
    wrong = next((i for i in ids if not 0 <= i < size), None)
    if wrong is not None:
        raise ApiError(400, f"token id {wrong} is outside the vocabulary of {size}", param="prompt")
    text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    row = Row(ids, text)
    return row, row


def _message(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    place = f"messages.{number}"
    role = _ROLES.get(str(message["role"]))
    if role is None:
        raise ApiError(400, f"role {message['role']!r} is not supported by this engine", param=f"{place}.role")
    check_message(message, place)
    content = message.get("content")
    if not content and role == "user":
        raise ApiError(400, "a user message has some content", param=f"{place}.content")
    rest = {name: message[name] for name in ("tool_call_id", "name") if role == "tool" and name in message}
    if role == "assistant" and message.get("tool_calls"):
        rest["tool_calls"] = _tool_calls(message["tool_calls"], place)
    if isinstance(content, str) or content is None:
        return {"role": role, "content": content or "", **rest}
    texts = []
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ApiError(400, "only text content is supported by this engine", param=f"{place}.content")
        texts.append(part["text"])
    return {"role": role, "content": "\n".join(texts), **rest}


def _tool_calls(calls: Any, place: str) -> list[dict[str, Any]]:
    """Return an assistant's tool calls as chat templates take them: their arguments are no text but what it says."""
    found = []
    for number, call in enumerate(calls if isinstance(calls, list) else [None]):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            message = "a tool call has a function with a name and arguments"
            raise ApiError(400, message, code="invalid_value", param=f"{place}.tool_calls.{number}")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        found.append({**call, "function": {**function, "arguments": arguments or {}}})
    return found
