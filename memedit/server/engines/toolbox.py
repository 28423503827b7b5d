"""The tools that a request offers: checked, shown to the model, and calls of them held to their schemas."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from memedit.errors import StructureError
from memedit.runtime.structured import Structure
from memedit.runtime.structured.grammars import closed
from memedit.server.problems import ApiError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST = 128
_SPACED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

AUTO, REQUIRED = "auto", "required"
OPEN, CLOSE = "<tool_call>", "</tool_call>"

PREAMBLE = """\
# Tools

You can call functions. Their signatures are these, one JSON object a line:
<tools>
{tools}
</tools>

To call one, write its name and arguments as a JSON object between <tool_call> and </tool_call>:
<tool_call>
{{"name": "FUNCTION", "arguments": {{"ARGUMENT": "VALUE"}}}}
</tool_call>
The results come back between <tool_response> and </tool_response>. When you need no function, just answer."""
"""System text for models whose chat template shows no tools: Hermes' form, which most models have seen."""


class CallStyle(StrEnum):
    """How a model writes calls: Hermes' and Qwen's tags around JSON, or Llama 3's bare JSON with ``parameters``."""

    HERMES = "hermes"
    LLAMA = "llama"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called. ``schema`` describes its arguments; ``strict`` demands that they hold to it."""

    name: str
    schema: Mapping[str, Any]
    strict: bool


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a request. ``shown`` are they as a chat template takes them.

    ``choice`` is "auto", "required", or the name of the one to call; with ``parallel`` several calls may be made.
    """

    tools: tuple[Tool, ...]
    shown: tuple[Mapping[str, Any], ...]
    choice: str
    parallel: bool

    @property
    def names(self) -> frozenset[str]:
        """The names of the tools that may be called."""
        return frozenset(tool.name for tool in self.allowed)

    @property
    def allowed(self) -> tuple[Tool, ...]:
        """The tools that may be called."""
        return tuple(tool for tool in self.tools if not self.named or tool.name == self.choice)

    @property
    def named(self) -> bool:
        """Whether one tool is to be called."""
        return self.choice not in (AUTO, REQUIRED)

    @property
    def forced(self) -> bool:
        """Whether the answer has to be a call."""
        return self.choice != AUTO


def toolbox_of(extra: Mapping[str, Any]) -> Toolbox | None:
    """Return the tools that a request offers to the model; None when there are none, or none may be called.

    Raises:
        ApiError: 400, a tool or the choice of one is wrong; names the field.
    """
    tools, choice = extra.get("tools"), extra.get("tool_choice")
    if not tools:
        if choice not in (None, "", "none", "auto"):
            raise _wrong("tool_choice", "there are no tools to choose from")
        return None
    if not isinstance(tools, list) or len(tools) > _MOST:
        raise _wrong("tools", f"tools are a list of at most {_MOST}")
    found = tuple(_tool(tool, f"tools.{number}") for number, tool in enumerate(tools))
    names = [tool.name for tool in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong("tools", f"two tools have the name {twice!r}")
    chosen = _choice(choice, names)
    if chosen is None:
        return None
    shown = tuple({"type": "function", "function": dict(tool["function"])} for tool in tools)
    return Toolbox(found, shown, chosen, extra.get("parallel_tool_calls") is not False)


def _tool(tool: Any, place: str) -> Tool:
    if not isinstance(tool, Mapping) or tool.get("type", "function") != "function":
        raise _wrong(f"{place}.type", "only tools of the type 'function' are supported by this engine")
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(f"{place}.function.name", "a function has a name of up to 64 letters, digits and _.-")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise _wrong(f"{place}.function.parameters", "the parameters of a function are a JSON schema, an object")
    return Tool(name, parameters or {"type": "object", "properties": {}}, function.get("strict") is True)


def _choice(choice: Any, names: Sequence[str]) -> str | None:
    """Return "auto", "required" or a tool's name; None for none."""
    if choice in (None, "", "auto"):
        return AUTO
    if choice == "none":
        return None
    if choice in (REQUIRED, "any"):
        return REQUIRED
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(choice, Mapping) or choice.get("type") != "function" or not isinstance(name, str):
        raise _wrong("tool_choice", "tool_choice is 'none', 'auto', 'required' or the function to call")
    if name not in names:
        raise _wrong("tool_choice", f"there is no tool {name!r}; there are {', '.join(names)}")
    return name


def style_of(tokenizer: Any) -> CallStyle:
    """Return how the model of a tokenizer writes calls, by what its chat template teaches."""
    template = str(tokenizer.chat_template or "")
    llama = OPEN not in template and '"parameters":' in template and ("python_tag" in template or "ipython" in template)
    return CallStyle.LLAMA if llama else CallStyle.HERMES


def spells_call(text: str) -> bool:
    """Whether a text looks like a call of a tool."""
    return OPEN in text or (text.lstrip().startswith(("{", "<|python_tag|>")) and '"name"' in text)


def shows_tools(tokenizer: Any, *, offered: bool = True) -> bool:
    """Whether the chat template shows calls in a talk, and tools that are ``offered``."""
    template = str(tokenizer.chat_template or "")
    return "tool_calls" in template and (not offered or "tools" in template)


def told_in_text(messages: Sequence[Mapping[str, Any]], toolbox: Toolbox | None) -> list[dict[str, Any]]:
    """Return a chat with tools, calls and results as plain text, for templates that show none of them."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if message.get("tool_calls"):
            calls = [_call_text(call["function"]) for call in message["tool_calls"]]
            found.append({"role": message["role"], "content": "\n".join([*filter(None, [message["content"]]), *calls])})
        elif message["role"] == "tool":
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            if found and found[-1].pop("results", False):
                found[-1]["content"] += f"\n{text}"
                found[-1]["results"] = True
            else:
                found.append({"role": "user", "content": text, "results": True})
        else:
            found.append(dict(message))
    plain = [{key: value for key, value in message.items() if key != "results"} for message in found]
    if toolbox is None:
        return plain
    preamble = PREAMBLE.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in toolbox.shown))
    if plain[0]["role"] == "system":
        return [{**plain[0], "content": f"{plain[0]['content']}\n\n{preamble}"}, *plain[1:]]
    return [{"role": "system", "content": preamble}, *plain]


def _call_text(function: Mapping[str, Any]) -> str:
    body = {"name": function["name"], "arguments": function["arguments"]}
    return f"{OPEN}\n{json.dumps(body, ensure_ascii=False)}\n{CLOSE}"


def calls_structure(
    toolbox: Toolbox, style: CallStyle, check: Callable[[Structure], Any], answer: Structure | None
) -> Structure | None:
    """Return what an answer that may call tools has to be; None when it may be anything.

    A call's arguments hold to their schema; one that cannot be held to stands for any object where its tool is not
    ``strict``.

    Args:
        toolbox: the tools.
        style: how the model writes calls.
        check: compiles a structure; raises StructureError for one that cannot be used.
        answer: what the answer has to be where it is no call.

    Raises:
        ApiError: 400, a strict tool's schema cannot be held to; names the field.
    """
    allowed = toolbox.allowed
    schemas = [_usable(tool, toolbox.tools.index(tool), check) for tool in allowed]
    if style is CallStyle.LLAMA:
        if not toolbox.forced and answer is None:
            return None  # bare JSON cannot be told from text before it is there
        bodies = [_body(tool.name, "parameters", number) for number, tool in enumerate(allowed)]
        calls = 'call ("; " call)*' if toolbox.parallel else "call"
        rules = ["call: " + " | ".join(bodies)]
    else:
        bodies = [_body(tool.name, "arguments", number) for number, tool in enumerate(allowed)]
        rules = [f'call: "{OPEN}\\n" body "\\n{CLOSE}"', "body: " + " | ".join(bodies)]
        calls = 'call ("\\n" call)*' if toolbox.parallel else "call"
        if not toolbox.forced and answer is None:
            start, rules = _in_text(allowed, toolbox.parallel)
            return Structure.mixed("\n".join([start, *rules, *_arguments(schemas)]))
    start = f"start: {calls}"
    if not toolbox.forced and answer is not None:
        start += f" | answer\nanswer: %json {_json(answer.schema)}"
    return Structure.mixed("\n".join([start, *rules, *_arguments(schemas)]))


def _in_text(tools: Sequence[Tool], parallel: bool) -> tuple[str, list[str]]:
    """Return the rules of text in which calls may stand; each begins where the text says so."""
    rules = ["rest: TEXT", "TEXT: /(.|\\n)*/", f'opened[lazy]: TEXT "{OPEN}"']
    bodies = [_body(tool.name, "arguments", number) for number, tool in enumerate(tools)]
    rules += ["body: " + " | ".join(bodies), f'call: opened "\\n" body "\\n{CLOSE}"']
    return f"start: call{'*' if parallel else '?'} rest", rules


def _body(name: str, key: str, number: int) -> str:
    head = json.dumps(f'{{"name": {json.dumps(name)}, "{key}": ')
    return f'{head} arguments{number} "}}"'


def _arguments(schemas: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"arguments{number}: %json {_json(schema)}" for number, schema in enumerate(schemas)]


def _json(schema: Any) -> str:
    return json.dumps({**closed(schema), "x-guidance": _SPACED})


def _usable(tool: Tool, number: int, check: Callable[[Structure], Any]) -> Mapping[str, Any]:
    """Return the schema of a tool's arguments, or that of any object where it cannot be held to and need not be."""
    try:
        check(Structure.json(tool.schema))
    except StructureError as error:
        if tool.strict:
            raise _wrong(f"tools.{number}.function.parameters", str(error)) from error
        return {"type": "object"}
    return tool.schema


def _wrong(place: str, message: str) -> ApiError:
    return ApiError(400, f"{place}: {message}", code="invalid_value", param=place)
