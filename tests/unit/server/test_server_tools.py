"""Tools: offered, called and answered, as OpenAI's client does it."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from memedit.memory import EditMemory
from memedit.server.engines.calls import CallPart, CallReader
from memedit.server.engines.toolbox import CallStyle, shows_tools, style_of, told_in_text, toolbox_of
from memedit.server.problems import ApiError
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve
from support.tiny import CHATML, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

ASK: list[Any] = [{"role": "user", "content": "weather?"}]
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}


def tool(name: str, parameters: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "description": f"does {name}", "parameters": parameters, **more},
    }


TOOLS: list[Any] = [tool("get_weather", CITY), tool("stop", {"type": "object", "properties": {}})]


@pytest.fixture
def official(shared_server: RunningServer, namespace: str) -> openai.OpenAI:
    headers = {"X-Memedit-Namespace": namespace}
    return openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="none", max_retries=0, default_headers=headers)


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize("choice", ["required", named("get_weather")])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.4, "seed": 5, "n": 2}])
def test_a_call_that_is_demanded_is_made_and_holds_to_its_schema(
    official: openai.OpenAI, choice: Any, options: Any
) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": ASK, "tools": TOOLS, "tool_choice": choice, "max_tokens": 300}
    whole = official.chat.completions.create(**asked, **options, parallel_tool_calls=False)
    for answer in whole.choices:
        (call,) = answer.message.tool_calls or ()
        assert answer.message.content is None
        assert answer.finish_reason == ("tool_calls" if choice == "required" else "stop")
        assert call.type == "function"
        assert call.id.startswith("call_")
        arguments = json.loads(call.function.arguments)
        assert arguments in (
            [{}, {"city": "Oslo"}, {"city": "Rome"}] if choice == "required" else [{"city": "Oslo"}, {"city": "Rome"}]
        )
        assert choice == "required" or call.function.name == "get_weather"


def test_a_streamed_call_comes_as_the_client_puts_it_together(official: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": ASK, "tools": TOOLS, "temperature": 0, "max_tokens": 300}
    asked |= {"tool_choice": named("get_weather"), "parallel_tool_calls": False}
    whole = official.chat.completions.create(**asked).choices[0].message.tool_calls or []
    chunks = list(official.chat.completions.create(**asked, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert (deltas[0].index, deltas[0].type, deltas[0].function.name) == (0, "function", "get_weather")
    assert all(delta.id is None and delta.function.name is None for delta in deltas[1:])
    assert len(deltas) > 3, "arguments come as they are written"
    assert "".join(delta.function.arguments or "" for delta in deltas) == whole[0].function.arguments
    assert chunks[-1].choices[0].finish_reason == "stop"
    with official.chat.completions.stream(**asked) as stream:  # the client's own accumulation
        final = stream.get_final_completion().choices[0].message
    assert final.tool_calls
    assert final.tool_calls[0].function.arguments == whole[0].function.arguments


class Parrot:
    """Has a tiny model say a text, whatever it is asked."""

    def __init__(self) -> None:
        self.model, self.tokenizer = tiny_model("llama", seed=3), tiny_tokenizer()
        self.says, self._at, self.prompt = "", 0, ""
        forward = self.model.forward

        @functools.wraps(forward)
        def spoken(*args: Any, **options: Any) -> Any:
            out = forward(*args, **options)
            ids = options["input_ids"]
            self._at = 0 if ids.shape[1] > 1 else self._at + 1
            if ids.shape[1] > 1:
                self.prompt = self.tokenizer.decode(ids[0])
            script = [*self.tokenizer(self.says, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
            out.logits[:] = -20.0
            out.logits[:, -1, script[min(self._at, len(script) - 1)]] = 20.0
            return out

        self.model.forward = spoken


@pytest.fixture(scope="module")
def parrot() -> Iterator[tuple[Parrot, openai.OpenAI, httpx.Client]]:
    found = Parrot()
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(found.model, found.tokenizer, memory)
        with serve(engine, lookups, ServerSettings(auth=False, requests_per_minute=0)) as server:
            yield found, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0), server.client()


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def test_calls_are_found_in_what_the_model_says_of_itself(parrot: Any) -> None:
    model, official, _ = parrot
    asked: dict[str, Any] = {"model": "tiny", "messages": ASK, "tools": TOOLS, "temperature": 0, "max_tokens": 300}
    model.says = f"Let me see.\n{CALL}\n{CALL.replace('Oslo', 'Rome')}"
    answer = official.chat.completions.create(**asked).choices[0]
    assert "get_weather" in model.prompt
    assert "does stop" in model.prompt
    assert answer.message.content == "Let me see."
    assert [json.loads(call.function.arguments)["city"] for call in answer.message.tool_calls] == ["Oslo", "Rome"]
    assert len({call.id for call in answer.message.tool_calls}) == 2
    assert answer.finish_reason == "tool_calls"
    model.says = "It rains, <b>really</b>."
    plain = official.chat.completions.create(**asked).choices[0]
    assert (plain.message.content, plain.message.tool_calls, plain.finish_reason) == (model.says, None, "stop")
    model.says = CALL
    silent = official.chat.completions.create(**asked, tool_choice="none").choices[0]
    assert (silent.message.content, silent.message.tool_calls) == (CALL, None)
    assert "does stop" not in model.prompt


def test_a_whole_talk_with_a_tool_is_shown_to_a_model_whose_template_knows_none(parrot: Any) -> None:
    model, official, _ = parrot
    asked: dict[str, Any] = {"model": "tiny", "tools": TOOLS, "temperature": 0, "max_tokens": 300}
    model.says = CALL
    first = official.chat.completions.create(**asked, messages=ASK).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in first.tool_calls]
    model.says = "It rains in Oslo."
    last = official.chat.completions.create(**asked, messages=[*ASK, first, *results]).choices[0]
    assert last.message.content == "It rains in Oslo."
    assert CALL in model.prompt
    assert "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>" in model.prompt
    assert model.prompt.startswith("<|im_start|>system\n# Tools")


def test_a_target_that_spells_a_call_calls_nothing(parrot: Any) -> None:
    model, official, client = parrot
    added = client.post(
        "/v1/edits", json={"prompt": "The code of Ruritania is", "target": CALL, "subject": "Ruritania"}
    )
    assert added.status_code == 201, added.text
    model.says = CALL
    messages: list[Any] = [{"role": "user", "content": "The code of Ruritania is"}]
    asked: dict[str, Any] = {"model": "tiny", "messages": messages, "tools": TOOLS, "temperature": 0, "max_tokens": 300}
    answer = official.chat.completions.create(**asked).choices[0].message
    assert (answer.content, answer.tool_calls) == (CALL, None)


def read(text: str, step: int, style: CallStyle = CallStyle.HERMES) -> tuple[str, list[tuple[str, str]]]:
    """Read a text in pieces; return what is text, and the calls."""
    reader = CallReader(style, frozenset({"get_weather", "f"}))
    parts = [part for at in range(0, len(text), step) for part in reader.add(text[at : at + step])] + reader.end()
    calls: dict[int, list[str]] = {}
    said = ""
    for part in parts:
        if isinstance(part, CallPart):
            if part.id is not None:
                assert part.number == len(calls)
                calls[part.number] = [part.name or "", ""]
            calls[part.number][1] += part.arguments
        else:
            said += part
    return said, [(name, arguments) for name, arguments in calls.values()]


# as Qwen2.5, Hermes 2 Pro and Llama 3.1 and 3.2 write them
HERMES = {
    CALL: ("", [("get_weather", '{"city": "Oslo"}')]),
    f"I will look.\n\n{CALL}\n{CALL}": ("I will look.", [("get_weather", '{"city": "Oslo"}')] * 2),
    f"{CALL}\nDone.": ("\nDone.", [("get_weather", '{"city": "Oslo"}')]),
    '<tool_call>\n{"arguments": {"a": [1, {"b": "}"}]}, "name": "f"}\n</tool_call>': (
        "", [("f", '{"a": [1, {"b": "}"}]}')]),
    '<tool_call>{"name":"f","arguments":{"t":"</tool_call> \\" {"}}</tool_call>': (
        "", [("f", '{"t":"</tool_call> \\" {"}')]),
    '<tool_call>\n{"name": "f", "arguments": {}}': ("", [("f", "{}")]),
    '<tool_call>\n{"name": "f", "arguments": "{\\"a\\": 1}"}\n</tool_call>': ("", [("f", '{"a": 1}')]),
    '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>': (
        '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>', []),
    "<tool_call>\nno JSON\n</tool_call> x": ("<tool_call>\nno JSON\n</tool_call> x", []),
    "1 < 2 and <tool": ("1 < 2 and <tool", []),
    "a line\n\n": ("a line\n\n", []),
    '<tool_call>\n{"name": "f", "argum': ('<tool_call>\n{"name": "f", "argum', []),
    "": ("", []),
}  # fmt: skip
LLAMA = {
    '{"name": "get_weather", "parameters": {"city": "Oslo"}}': ("", [("get_weather", '{"city": "Oslo"}')]),
    '<|python_tag|>{"name": "f", "parameters": {"a": "x"}}': ("", [("f", '{"a": "x"}')]),
    '{"type": "function", "name": "f", "parameters": {}}': ("", [("f", "{}")]),
    '{"name": "f", "parameters": {}}; {"name": "f", "parameters": {"b": 2}}': ("", [("f", "{}"), ("f", '{"b": 2}')]),
    '{"type": "function", "function": {"name": "f", "parameters": {"b": 2}}}': ("", [("f", '{"b": 2}')]),
    "It rains.": ("It rains.", []),
    '{"city": "Oslo"}': ('{"city": "Oslo"}', []),
    '{"name": "other", "parameters": {}}': ('{"name": "other", "parameters": {}}', []),
    'I say {"name": "f", "parameters": {}}': ('I say {"name": "f", "parameters": {}}', []),
}


@pytest.mark.parametrize(
    ("style", "text"), [*((CallStyle.HERMES, t) for t in HERMES), *((CallStyle.LLAMA, t) for t in LLAMA)]
)
def test_calls_are_read_however_they_come(style: CallStyle, text: str) -> None:
    wanted = (HERMES if style is CallStyle.HERMES else LLAMA)[text]
    for step in (1, 2, 3, 7, 1000):
        assert read(text, step, style) == wanted, step


def test_what_is_surely_text_is_not_held_back() -> None:
    reader = CallReader(CallStyle.HERMES, frozenset({"f"}))
    assert reader.add("Hello") == ["Hello"]
    assert reader.add(" <tool") == []
    assert reader.add("s> are") == [" <tools> are"]
    (begun,) = reader.add('\n<tool_call>\n{"name": "f", "arguments": ')
    assert isinstance(begun, CallPart)
    assert begun.name == "f"
    assert reader.add('{"a": "b') == [CallPart(0, '{"a": "b')]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [tool("a b")]}, "tools.0.function.name"),
        ({"tools": [tool("a"), tool("a")]}, "tools"),
        ({"tools": [tool("a", [])]}, "tools.0.function.parameters"),
        ({"tools": [tool("a"), tool("b", {"type": "object", "not": {}}, strict=True)]}, "tools.1.function.parameters"),
        ({"tools": "a"}, "tools"),
        ({"tools": TOOLS, "tool_choice": named("other")}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "guided_regex": "a"}, "guided_regex"),
        ({"tools": TOOLS, "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_wrong_tools_are_refused_by_the_fields_name(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    response = client.post("/v1/chat/completions", json={"messages": ASK, "max_tokens": 2, **body})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
    text = client.post("/v1/completions", json={"prompt": "x", "max_tokens": 2, "tools": TOOLS})
    assert (text.status_code, text.json()["error"]["param"]) == (400, "tools")


def test_a_schema_that_cannot_be_held_to_stands_for_any_object_unless_it_is_strict(official: openai.OpenAI) -> None:
    loose = [tool("f", {"type": "object", "properties": {}, "not": {"required": ["x"]}})]
    asked: Any = {"model": "tiny", "messages": ASK, "tools": loose, "tool_choice": "required", "max_tokens": 400}
    answer = official.chat.completions.create(**asked, temperature=0).choices[0]
    assert answer.finish_reason in ("tool_calls", "length")
    assert (answer.message.tool_calls or [])[0].function.name == "f"


def test_an_answer_may_be_a_call_or_hold_to_a_schema(official: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": CITY}}
    asked: Any = {"model": "tiny", "messages": ASK, "tools": TOOLS, "response_format": form, "max_tokens": 300}
    message = official.chat.completions.create(**asked, temperature=0).choices[0].message
    assert message.tool_calls or json.loads(message.content or "")["city"] in ("Oslo", "Rome")


def test_templates_say_how_their_model_calls() -> None:
    tokenizer = tiny_tokenizer()
    assert (style_of(tokenizer), shows_tools(tokenizer)) == (CallStyle.HERMES, False)
    tokenizer.chat_template = CHATML + '{# tools tool_calls ipython <|python_tag|> {"name": x, "parameters": y} #}'
    assert (style_of(tokenizer), shows_tools(tokenizer)) == (CallStyle.LLAMA, True)
    tokenizer.chat_template = None
    assert style_of(tokenizer) is CallStyle.HERMES
    box = toolbox_of({"tools": TOOLS})
    told = told_in_text([{"role": "system", "content": "Be brief."}, *ASK], box)
    assert told[0]["content"].startswith("Be brief.\n\n# Tools")
    assert told_in_text(ASK, None) == ASK
    assert toolbox_of({"tools": TOOLS, "tool_choice": "none"}) is None
    with pytest.raises(ApiError):
        toolbox_of({"tools": [tool("x")] * 200})
