"""From the items of a Responses request to a chat, and to the fields that an engine knows."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from memedit.server.problems import ApiError
from memedit.server.schemas.responses import ResponsesIn

Item = dict[str, Any]

_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text", "text", "refusal")
_SILENT: Mapping[str, tuple[Any, ...]] = {
    "background": (False,), "conversation": (), "prompt": (), "truncation": ("disabled",), "max_tool_calls": (),
    "top_logprobs": (0,), "include": ([], ["reasoning.encrypted_content"]), "context_management": (),
    "messages": (), "n": (1,), "stop": (), "logprobs": (False,), "max_tokens": (), "max_completion_tokens": (),
    "response_format": (), "seed": (), "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": (),
}  # fmt: skip
"""Fields that are not honoured here, and the values beside none at which they ask for nothing."""


def new_items(body: ResponsesIn) -> list[Item]:
    """Return what a request puts in, as items with ids.

    Raises:
        ApiError: 400, an item that is no text, call or result; names it.
    """
    if isinstance(body.input, str):
        return [_message({"role": "user", "content": body.input}, "input")]
    return [_item(item, f"input.{number}") for number, item in enumerate(body.input) if item.get("type") != "reasoning"]


def as_messages(items: Sequence[Item], instructions: str | None) -> list[dict[str, Any]]:
    """Return items as the messages of a chat, behind the instructions."""
    found: list[dict[str, Any]] = [] if instructions is None else [{"role": "system", "content": instructions}]
    for item in items:
        if item["type"] == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            if found and found[-1]["role"] == "assistant":
                found[-1]["tool_calls"] = [*found[-1].get("tool_calls", []), call]
            else:
                found.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif item["type"] == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        else:
            found.append({"role": item["role"], "content": "\n".join(part["text"] for part in item["content"])})
    return found


def engine_fields(body: ResponsesIn) -> dict[str, Any]:
    """Return what a request asks for beside its items, in the fields of a chat request.

    Raises:
        ApiError: 400, it asks for what is not supported; names the field.
    """
    extra = dict(body.model_extra or {})
    for name, silent in _SILENT.items():
        value = extra.pop(name, None)
        if value not in (None, "", [], {}, *silent):
            raise _unsupported(name)
    reasoning = extra.pop("reasoning", None)
    if isinstance(reasoning, Mapping) and any(value not in (None, "none") for value in reasoning.values()):
        raise _unsupported("reasoning")
    if body.tools:
        extra["tools"] = [_tool(tool, f"tools.{number}") for number, tool in enumerate(body.tools)]
    choice = body.tool_choice
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    extra |= {"tool_choice": choice, "parallel_tool_calls": body.parallel_tool_calls} if body.tools or choice else {}
    form = (body.text or {}).get("format")
    if form is not None:
        extra["response_format"] = _format(form)
    return {name: value for name, value in extra.items() if value is not None}


def _item(item: Mapping[str, Any], place: str) -> Item:
    kind = item.get("type", "message")
    if kind == "message":
        return _message(item, place)
    if kind == "function_call":
        return {
            "type": kind,
            "id": _id(item, "fc"),
            "call_id": _text(item, "call_id", place),
            "name": _text(item, "name", place),
            "arguments": _text(item, "arguments", place),
            "status": "completed",
        }
    if kind == "function_call_output":
        output = item.get("output")
        text = (
            output if isinstance(output, str) else "\n".join(one["text"] for one in _parts(output, f"{place}.output"))
        )
        return {"type": kind, "id": _id(item, "fco"), "call_id": _text(item, "call_id", place), "output": text}
    raise ApiError(400, f"items of the type {kind!r} are not supported", code="unsupported_parameter", param=place)


def _message(item: Mapping[str, Any], place: str) -> Item:
    role = item.get("role")
    if role not in _ROLES:
        message = f"role {role!r} is not one of {', '.join(_ROLES)}"
        raise ApiError(400, message, code="invalid_value", param=f"{place}.role")
    content = item.get("content")
    kind = "output_text" if role == "assistant" else "input_text"
    parts: list[dict[str, Any]]
    if isinstance(content, str):
        parts = [{"type": kind, "text": content}]
    else:
        parts = [{**one, "type": kind} for one in _parts(content, f"{place}.content")]
    if role == "assistant":
        parts = [{**part, "annotations": []} for part in parts]
    return {"type": "message", "id": _id(item, "msg"), "role": role, "status": "completed", "content": parts}


def _parts(content: Any, place: str) -> list[dict[str, Any]]:
    found = []
    for number, part in enumerate(content if isinstance(content, list) else [content]):
        text = part.get("text", part.get("refusal")) if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or part.get("type") not in _TEXTS or not isinstance(text, str):
            message = "only text is supported: a string, or parts of the type input_text"
            raise ApiError(400, message, code="unsupported_parameter", param=f"{place}.{number}")
        found.append({"text": text})
    return found


def _id(item: Mapping[str, Any], prefix: str) -> str:
    given = item.get("id")
    return given if isinstance(given, str) and 0 < len(given) <= 200 else f"{prefix}_{uuid.uuid4().hex}"


def _text(item: Mapping[str, Any], name: str, place: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise ApiError(400, f"{place}.{name} is text", code="invalid_value", param=f"{place}.{name}")
    return value


def _tool(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        message = f"tools of the type {tool.get('type')!r} are not supported; 'function' is"
        raise ApiError(400, message, code="unsupported_parameter", param=f"{place}.type")
    function = {
        name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None
    }
    return {"type": "function", "function": function}


def _format(form: Any) -> Any:
    """A text format as a chat request has it; what is wrong with it the engine says."""
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}
    return form


def _unsupported(name: str) -> ApiError:
    return ApiError(400, f"{name} is not supported by this server", code="unsupported_parameter", param=name)
