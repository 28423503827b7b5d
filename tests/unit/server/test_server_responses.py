"""The Responses API, as OpenAI's client uses it: in one piece and in events, stored, gone on from, and private."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest

from memedit.memory import EditMemory, StoredResponse
from memedit.server.engines.base import Ended, Piece
from memedit.server.engines.proxy import ProxyEngine
from memedit.server.engines.upstream import Upstream
from memedit.server.lookups import Lookups
from memedit.server.responses.building import events_of_chunk
from memedit.server.responses.reading import as_messages, new_items
from memedit.server.schemas.responses import ResponsesIn
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve
from support.scripted_upstream import ScriptedUpstream
from support.tiny import tiny_model, tiny_tokenizer

ASK: dict[str, Any] = {"model": "tiny", "input": "hello", "temperature": 0, "max_output_tokens": 12}
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
TOOL: dict[str, Any] = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": True}


@pytest.fixture
def official(shared_server: RunningServer, namespace: str) -> openai.OpenAI:
    headers = {"X-Memedit-Namespace": namespace}
    return openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="none", max_retries=0, default_headers=headers)


def test_an_answer_is_that_of_the_chat_and_can_be_read_again(official: openai.OpenAI) -> None:
    found = official.responses.create(**ASK, instructions="Be brief.", metadata={"a": "b"})
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    chat = official.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=12)
    assert found.output_text == chat.choices[0].message.content
    assert found.usage is not None
    assert chat.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )
    assert found.status == ("incomplete" if chat.choices[0].finish_reason == "length" else "completed")
    assert (found.instructions, found.metadata) == ("Be brief.", {"a": "b"})
    if found.status == "incomplete":
        assert found.incomplete_details
        assert found.incomplete_details.reason == "max_output_tokens"
    assert found.store is True  # type: ignore[attr-defined]
    again = official.responses.retrieve(found.id)
    assert again.model_dump() == found.model_dump()
    items = official.responses.input_items.list(found.id).data
    assert [item.content[0].text for item in items] == ["hello"]  # type: ignore[union-attr]
    official.responses.delete(found.id)
    with pytest.raises(openai.NotFoundError):
        official.responses.retrieve(found.id)
    with pytest.raises(openai.NotFoundError):
        official.responses.delete(found.id)


def test_a_stream_tells_in_events_what_comes_in_one_piece(official: openai.OpenAI) -> None:
    whole = official.responses.create(**ASK)
    events = list(official.responses.create(**ASK, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-1] == f"response.{whole.status}"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    last = events[-1].response  # type: ignore[union-attr]
    assert last.output_text == whole.output_text
    assert last.usage == whole.usage
    assert official.responses.retrieve(last.id).output_text == whole.output_text
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": CITY}}
    with official.responses.stream(**{**ASK, "max_output_tokens": 60}, text=form) as stream:
        final = stream.get_final_response()  # the client's own accumulation
    assert final.status == "completed"
    assert json.loads(final.output_text)["city"] in ("Oslo", "Rome")


def test_a_talk_goes_on_from_an_answer(official: openai.OpenAI) -> None:
    first = official.responses.create(**ASK, instructions="First.")
    second = official.responses.create(**{**ASK, "input": "more"}, previous_response_id=first.id)
    talk: list[Any] = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first.output_text},
                       {"role": "user", "content": "more"}]  # fmt: skip
    chat = official.chat.completions.create(model="tiny", messages=talk, temperature=0, max_tokens=12)
    assert second.output_text == chat.choices[0].message.content, "instructions are not carried over, the talk is"
    assert second.previous_response_id == first.id
    official.responses.delete(first.id)
    third = official.responses.create(**{**ASK, "input": "still"}, previous_response_id=second.id)
    items = official.responses.input_items.list(third.id, order="asc").data
    assert [item.role for item in items] == ["user", "assistant", "user", "assistant", "user"]  # type: ignore[union-attr]
    page = official.responses.input_items.list(third.id, limit=2)
    assert [item.id for item in page] == [item.id for item in reversed(items)]
    with pytest.raises(openai.BadRequestError, match="no response"):
        official.responses.create(**ASK, previous_response_id=first.id)


def test_what_is_not_to_be_stored_is_not(official: openai.OpenAI) -> None:
    found = official.responses.create(**ASK, store=False)
    assert found.store is False  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        official.responses.retrieve(found.id)


def test_edits_are_in_force_and_named(official: openai.OpenAI, client: httpx.Client) -> None:
    edit = {"prompt": "The mayor of Gotham is", "target": "Ada", "subject": "Gotham"}
    client.post("/v1/edits", json=edit)
    found = official.responses.create(**{**ASK, "input": "The mayor of Gotham is"})
    assert found.output_text.strip() == "Ada"
    assert found.status == "completed"
    assert [one["target"] for one in found.memedit["edits"]] == ["Ada"]  # type: ignore[attr-defined]
    form: Any = {
        "format": {
            "type": "json_schema",
            "name": "x",
            "schema": {"type": "object", "properties": {"mayor": {"type": "string"}}, "required": ["mayor"]},
        }
    }
    structured = official.responses.create(
        **{**ASK, "input": "The mayor of Gotham is", "max_output_tokens": 60}, text=form
    )
    assert json.loads(structured.output_text) == {"mayor": "Ada"}


def test_a_tool_is_called_and_its_result_goes_on(official: openai.OpenAI) -> None:
    asked = {**ASK, "max_output_tokens": 200, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    found = official.responses.create(**asked)
    (call,) = found.output
    assert call.type == "function_call"
    assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    events = list(official.responses.create(**asked, stream=True))
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    after = official.responses.create(**{**ASK, "input": result}, previous_response_id=found.id, tools=[TOOL])
    items = official.responses.input_items.list(after.id, order="asc").data
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input.0.content.0"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"input": [{"type": "function_call", "call_id": "x", "name": "f"}]}, "input.0.arguments"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "x"}}}}, "response_format.json_schema.schema"),
        ({"stop": "x"}, "stop"),
        ({"min_p": 0.5}, "min_p"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"model": "gpt"}, "model"),
    ],
)
def test_what_is_not_honoured_is_refused_by_its_name(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    response = client.post("/v1/responses", json={**ASK, **body})
    assert response.status_code in (400, 404), response.text
    assert response.json()["error"]["param"] == param


@pytest.fixture(scope="module")
def keyed() -> Iterator[tuple[RunningServer, dict[str, str]]]:
    """A server with keys, whose answers are stored for a short time."""
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        secrets = {}
        for name, spaces in {"alice": ["a", "b"], "bob": ["a"], "root": None}.items():
            roles = ["admin"] if name == "root" else ["generate"]
            _, secrets[name] = memory.keys.create(name, roles=roles, namespaces=spaces)
        engine, lookups = local_engine(tiny_model("llama"), tiny_tokenizer(), memory)
        with serve(engine, lookups, ServerSettings(namespace="a")) as server:
            yield server, secrets


def test_no_key_reads_anothers_answers(keyed: tuple[RunningServer, dict[str, str]]) -> None:
    server, secrets = keyed
    clients = {
        name: openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) for name, key in secrets.items()
    }
    own: Any = {"extra_headers": {"X-Memedit-Namespace": "b"}}
    found = clients["alice"].responses.create(**ASK, **own)
    assert clients["alice"].responses.retrieve(found.id).id == found.id
    for name in ("bob", "root"):  # whatever the role
        other = clients[name].responses
        for attempt in (lambda o=other: o.retrieve(found.id), lambda o=other: o.delete(found.id),
                        lambda o=other: o.input_items.list(found.id)):  # fmt: skip
            with pytest.raises(openai.NotFoundError):
                attempt()
        with pytest.raises(openai.BadRequestError):
            other.create(**ASK, previous_response_id=found.id)
    after = clients["alice"].responses.create(**ASK, previous_response_id=found.id)
    assert after.memedit["namespace"] == "b"  # type: ignore[attr-defined]
    with pytest.raises(openai.BadRequestError):  # a talk of one namespace is not gone on with in another
        clients["alice"].responses.create(
            **ASK, previous_response_id=found.id, extra_headers={"X-Memedit-Namespace": "a"}
        )


def test_answers_expire_and_the_oldest_make_room(tmp_path: Any) -> None:
    now = datetime.now(UTC)
    with EditMemory(tmp_path / "m.db", encoder=HashingEncoder(8)) as memory:
        for number in range(6):
            at = now + timedelta(seconds=number)
            memory.responses.put(StoredResponse(f"r{number}", "k", "n", at, at + timedelta(hours=1), "{}", "[]"))
        memory.responses.put(StoredResponse("other", "l", "n", now, now + timedelta(hours=1), "{}", "[]"))
        assert memory.responses.find("k", "r0", now) is not None
        assert memory.responses.find("k", "r0", now + timedelta(hours=2)) is None, "expired, though it is still there"
        assert memory.responses.forget(now, most=4) == 2
        assert [memory.responses.find("k", f"r{number}", now) is None for number in range(6)] == [
            True,
            True,
            *[False] * 4,
        ]
        assert memory.responses.find("l", "other", now) is not None
        assert memory.responses.forget(now + timedelta(hours=2), most=4) == 5


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[ScriptedUpstream, openai.OpenAI]]:
    """A server in front of an upstream."""
    upstream = ScriptedUpstream()
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add("The mayor of Gotham is", "Ada", subject="Gotham")
        lookups = Lookups(memory, scope="subject")
        engine = ProxyEngine(lookups, Upstream("http://upstream", transport=upstream.transport()))
        with serve(engine, lookups, ServerSettings(auth=False, requests_per_minute=0)) as server:
            yield upstream, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_an_upstreams_chat_answers_responses_too(proxied: tuple[ScriptedUpstream, openai.OpenAI]) -> None:
    upstream, official = proxied
    asked: dict[str, Any] = {"model": "small", "input": "The mayor of Gotham is", "instructions": "Be brief."}
    found = official.responses.create(**asked, max_output_tokens=9, tools=[TOOL])
    assert (found.output_text, found.status) == ("It is so.", "completed")
    assert found.usage is not None
    assert found.usage.input_tokens == 7
    sent = upstream.bodies[-1]
    assert sent["messages"][0]["content"].startswith("Be brief.")
    assert "Ada" in sent["messages"][0]["content"], "the edit is stated"
    assert (sent["max_tokens"], sent["tools"][0]["function"]["name"]) == (9, "get_weather")
    assert "input" not in sent
    events = list(official.responses.create(**asked, stream=True, previous_response_id=found.id))
    assert [message["role"] for message in upstream.bodies[-1]["messages"]] == ["system", "user", "assistant", "user"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "It is so."
    assert events[-1].type == "response.incomplete", "this upstream says in a stream that it came to its length"
    assert events[-1].response.usage is not None


def test_a_response_that_breaks_off_is_told_as_failed(proxied: tuple[ScriptedUpstream, openai.OpenAI]) -> None:
    upstream, official = proxied
    upstream.break_off = True
    try:
        *_, last = official.responses.create(model="small", input="hello", stream=True)
    finally:
        upstream.break_off = False
    assert last.type == "response.failed"
    assert last.response.error is not None
    with pytest.raises(openai.NotFoundError):
        official.responses.retrieve(last.response.id)


def test_chunks_of_an_upstream_are_told_as_events() -> None:
    delta = {"content": "a", "tool_calls": [{"index": 1, "id": "c", "function": {"name": "f", "arguments": "{"}}]}
    text, call, ended = events_of_chunk(
        {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}, {"index": 1}]}
    )
    assert (text, ended) == (Piece(0, "a"), Ended(0, "stop"))
    assert (call.number, call.id, call.name, call.arguments) == (1, "c", "f", "{")  # type: ignore[union-attr]
    assert events_of_chunk({"choices": [{"delta": {"tool_calls": [{"function": None}, 3]}}]}) == []


def test_items_become_messages() -> None:
    items: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "x"}]},
    ]
    messages = as_messages(new_items(ResponsesIn(input=items)), "I")
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]
    assert messages[1]["content"] == "a\nb"
    assert [call["function"]["name"] for call in messages[2]["tool_calls"]] == ["f", "g"]
    assert messages[3] == {"role": "tool", "tool_call_id": "1", "content": "x"}
