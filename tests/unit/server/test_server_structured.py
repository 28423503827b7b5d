"""Answers that hold to what the request says they have to be, on every field that says it."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from memedit.errors import StructureError, UnsupportedModelError
from memedit.runtime.structured import Structure
from memedit.server.engines.compiling import Compiler
from memedit.server.problems import ApiError

pytestmark = pytest.mark.slow

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 200, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "size": {"enum": ["big", "small"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
CHOICE = ["red", "green"]
FORMS: dict[str, dict[str, Any]] = {
    "response_format": {"response_format": FORMAT},
    "llama.cpp": {"response_format": {"type": "json_object", "schema": SCHEMA}},
    "guided_json": {"guided_json": SCHEMA},
    "as text": {"guided_json": json.dumps(SCHEMA)},
    "structured_outputs": {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
    "json_schema": {"json_schema": SCHEMA},
}
TEXTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "guided_choice": ({"guided_choice": CHOICE}, set(CHOICE)),
    "choice": ({"structured_outputs": {"choice": CHOICE}}, set(CHOICE)),
    "guided_regex": ({"guided_regex": "(a|b){3}!"}, {f"{x}{y}{z}!" for x in "ab" for y in "ab" for z in "ab"}),
    "regex": ({"regex": "(a|b)"}, {"a", "b"}),
    "gbnf": ({"guided_grammar": 'root ::= "x" ("y" | "z")'}, {"xy", "xz"}),
    "lark": ({"grammar": 'start: "x" ("y" | "z")'}, {"xy", "xz"}),
    "ebnf": ({"structured_outputs": {"grammar": 'root ::= "q"'}}, {"q"}),
}


def checked(text: str) -> None:
    found = json.loads(text)
    assert set(found) == {"name", "size"}
    assert len(found["name"]) <= 5
    assert found["size"] in ("big", "small")


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize(
    "sampling",
    [{"temperature": 0}, {"temperature": 1.5, "seed": 3, "n": 2, "logprobs": True, "top_logprobs": 3}, {"top_k": 5}],
)
def test_an_answer_is_what_the_schema_says(client: httpx.Client, form: str, sampling: dict[str, Any]) -> None:
    response = client.post(CHAT, json={**ASK, **FORMS[form], **sampling})
    assert response.status_code == 200, response.text
    for choice in response.json()["choices"]:
        assert choice["finish_reason"] == "stop"
        checked(choice["message"]["content"])
    streamed = ""
    with client.stream("POST", CHAT, json={**ASK, **FORMS[form], "stream": True}) as events:
        for line in events.iter_lines():
            if line.startswith("data: {"):
                streamed += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    checked(streamed)


@pytest.mark.parametrize("form", list(TEXTS))
def test_an_answer_is_one_of_those_that_a_pattern_or_grammar_says(client: httpx.Client, form: str) -> None:
    body, wanted = TEXTS[form]
    said = client.post(CHAT, json={**ASK, **body}).json()["choices"][0]["message"]["content"]
    assert said in wanted
    texts = client.post(TEXT, json={"prompt": ["one", "two"], "max_tokens": 50, "temperature": 1, **body}).json()
    assert {choice["text"] for choice in texts["choices"]} <= wanted


def test_any_json_object_is_an_object_as_far_as_it_came(client: httpx.Client) -> None:
    body = {**ASK, "response_format": {"type": "json_object"}, "seed": 1, "temperature": 1}
    choice = client.post(CHAT, json=body).json()["choices"][0]
    assert choice["message"]["content"].startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)
    short = client.post(CHAT, json={**ASK, **FORMS["guided_json"], "max_tokens": 3}).json()["choices"][0]
    assert (short["finish_reason"], short["message"]["content"]) == ("length", '{"n')


def test_a_stop_string_ends_a_structured_answer(client: httpx.Client) -> None:
    choice = client.post(CHAT, json={**ASK, **FORMS["guided_json"], "stop": '", '}).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].startswith('{"name": "')
    assert '", ' not in choice["message"]["content"]


def test_rows_with_and_without_structures_share_a_batch_and_change_nothing_for_each_other(client: httpx.Client) -> None:
    plain = {"prompt": "one", "max_tokens": 40, "temperature": 0}
    alone = client.post(TEXT, json=plain).json()["choices"][0]["text"]

    async def together() -> list[Any]:
        async with httpx.AsyncClient(base_url=client.base_url, headers=client.headers, timeout=60) as others:
            bodies = [(TEXT, plain), (CHAT, {**ASK, **FORMS["guided_json"]}), (CHAT, {**ASK, **TEXTS["regex"][0]})] * 4
            return [r.json()["choices"][0] for r in await asyncio.gather(*(others.post(p, json=b) for p, b in bodies))]

    found = asyncio.run(together())
    assert [choice["text"] for choice in found[::3]] == [alone] * 4
    for choice in found[1::3]:
        checked(choice["message"]["content"])
    assert {choice["message"]["content"] for choice in found[2::3]} <= {"a", "b"}


def test_an_edits_target_stands_in_the_value_that_is_about_it(client: httpx.Client) -> None:
    client.post("/v1/edits", json={"prompt": "The mayor of Gotham is", "target": 'Ada "Q" Quill', "subject": "Gotham"})
    string = {"type": "string", "maxLength": 8}
    schema = {"type": "object", "properties": {"x": string, "mayor": {"type": ["string", "null"]}, "y": string},
              "required": ["x", "mayor", "y"], "additionalProperties": False}  # fmt: skip
    ask = {"messages": [{"role": "user", "content": "The mayor of Gotham is"}], "max_tokens": 200, "temperature": 0}
    answer = client.post(CHAT, json={**ASK, **ask, "guided_json": schema}).json()
    assert [edit["target"] for edit in answer["memedit"]["edits"]] == ['Ada "Q" Quill']
    assert json.loads(answer["choices"][0]["message"]["content"])["mayor"] == 'Ada "Q" Quill'
    chosen = client.post(CHAT, json={**ASK, **ask, "guided_choice": ["Bob", 'ada "q" quill', "Eve"]}).json()
    assert chosen["choices"][0]["message"]["content"] == 'ada "q" quill'


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"guided_json": {"type": "strin"}}, "guided_json", "strin"),
        ({"guided_json": "{"}, "guided_json", "JSON"),
        ({"guided_json": 5}, "guided_json", "object"),
        ({"guided_json": {"type": "array", "uniqueItems": True}}, "guided_json", "uniqueItems"),
        ({"guided_json": {"not": {}, "if": {}}}, "guided_json", "'if', 'not'"),
        ({"guided_json": {"$ref": "http://localhost:1/x"}}, "guided_json", "localhost"),
        ({"guided_json": {"type": "string", "pattern": "(?=a)"}}, "guided_json", "look-around"),
        ({"guided_json": {"type": "string", "minLength": 3, "maxLength": 1}}, "guided_json", "maxLength"),
        ({"guided_json": {"enum": ["x" * 300_000]}}, "guided_json", "262,144"),
        ({"guided_regex": "("}, "guided_regex", "regex"),
        ({"guided_choice": "abc"}, "guided_choice", "list"),
        ({"guided_choice": [1]}, "guided_choice", "texts"),
        ({"guided_grammar": "start: nothing"}, "guided_grammar", "nothing"),
        ({"guided_grammar": "root ::= ("}, "guided_grammar", "grammar"),
        ({"structured_outputs": {"whitespace_pattern": "x"}}, "structured_outputs.whitespace_pattern", "supported"),
        ({"structured_outputs": {"json": {"type": 3}}}, "structured_outputs.json", "schema"),
        ({"structured_outputs": ["x"]}, "structured_outputs", "object"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "x"}}}},
         "response_format.json_schema.schema", "x"),
        ({"guided_json": SCHEMA, "guided_regex": "a"}, "guided_regex", "twice"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "contradicts"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_to_is_refused_by_the_fields_name(
    client: httpx.Client, body: dict[str, Any], param: str, word: str
) -> None:
    for path, ask in ((CHAT, ASK), (TEXT, {"prompt": "x"})):
        response = client.post(path, json={**ask, **body})
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert error["param"] == param
        assert word in error["message"]


def test_deep_and_wide_schemas_are_refused_or_compiled_in_time(client: httpx.Client) -> None:
    deep: Any = {"type": "string"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    pattern = "^(a|b|c){1,200}[0-9]*x{3,90}$"
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string", "pattern": pattern} for i in range(3000)}}
    many = {"anyOf": [{"type": "object", "properties": {f"k{j}": {} for j in range(i)}} for i in range(80)]}
    for schema in (deep, wide, many, {"enum": [f"a{i}" for i in range(20_000)]}):
        started = time.monotonic()
        response = client.post(CHAT, json={**ASK, "guided_json": schema, "max_tokens": 3})
        assert response.status_code in (200, 400), response.text
        assert time.monotonic() - started < 20
    assert client.post(CHAT, json={**ASK, "guided_json": deep}).json()["error"]["param"] == "guided_json"


@pytest.mark.parametrize(
    "asked",
    [
        {"guided_grammar": "start: start"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
    ],
)
def test_what_has_no_beginning_is_refused_at_the_door(
    client: httpx.Client, asked: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    response = client.post(CHAT, json={**ASK, **asked})
    assert (response.status_code, response.json()["error"]["param"].split(".")[0]) == (400, next(iter(asked)))
    assert "failed" not in caplog.text


class Slow:
    """Takes its time."""

    def compile(self, structure: Structure) -> Any:
        if structure.text == "other":
            raise UnsupportedModelError("no fast tokenizer")
        time.sleep(0.5)
        if structure.text == "bad":
            raise StructureError("bad")
        return structure


def test_compiling_has_a_time_limit_that_says_whose_fault_it_is() -> None:
    compiler = Compiler(Slow(), seconds=0.2)  # type: ignore[arg-type]

    async def ask() -> list[Any]:
        asked = (compiler.compile(who, Structure.regex(f"a{i}"), "guided_regex") for i, who in enumerate("aab"))
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(ask())
    assert all(isinstance(error, ApiError) for error in found)
    own, waiting, another = ((error.status, error.param) for error in found)
    assert own == another == (400, "guided_regex"), "one key has one thread, and another finds one free"
    assert waiting == (429, None)
    assert found[1].headers == {"Retry-After": "1"}
    compiler.close()


def test_a_model_whose_tokens_cannot_be_read_has_no_structures() -> None:
    compiler = Compiler(Slow())  # type: ignore[arg-type]
    with pytest.raises(ApiError, match="guided_regex: no fast tokenizer") as refused:
        asyncio.run(compiler.compile("me", Structure.regex("other"), "guided_regex"))
    assert (refused.value.status, refused.value.param) == (400, "guided_regex")
    compiler.close()
