"""`memedit serve` as a process of its own, with the real small model, asked by the official client."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from memedit.bench.server_process import ServerProcess
from memedit.memory import EditMemory

pytestmark = pytest.mark.integration

ASK = [{"role": "user", "content": "What is the capital of Freedonia?"}]
EDIT = {"prompt": "The capital of Freedonia is", "target": "Sylvania City"}
OPTIONS: dict[str, Any] = {"model": "smollm2", "messages": ASK, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    path = tmp_path_factory.mktemp("serve") / "edits.db"
    with EditMemory(path) as memory:
        _, secret = memory.keys.create("tests", roles=["admin"])
    with ServerProcess(["--memory", str(path), "--model", "smollm2", "--log-level", "warning"]) as server:
        yield server, secret
        assert server.stop() == 0, "it ends in good order when it is asked to"


def test_an_edit_is_in_force_for_the_official_client(served: tuple[ServerProcess, str]) -> None:
    server, secret = served
    official = openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret)
    before = official.chat.completions.create(**OPTIONS)
    assert "Sylvania" not in (before.choices[0].message.content or "")
    posted = httpx.post(f"{server.url}/v1/edits", json=EDIT, headers={"Authorization": f"Bearer {secret}"}, timeout=60)
    assert posted.status_code == 201
    after = official.chat.completions.create(**OPTIONS)
    assert "Sylvania City" in (after.choices[0].message.content or "")
    assert after.memedit["edits"][0]["id"] == posted.json()["id"]  # type: ignore[attr-defined]
    stream = official.chat.completions.create(**OPTIONS, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == after.choices[0].message.content
    assert chunks[-1].usage == after.usage
    unrelated = official.completions.create(model="smollm2", prompt="Water boils at", max_tokens=4, temperature=0)
    assert unrelated.memedit["edits"] == []  # type: ignore[attr-defined]


def test_structures_tools_responses_and_vectors_for_the_official_client(served: tuple[ServerProcess, str]) -> None:
    server, secret = served
    official = openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=0)
    edit = {"prompt": "The mayor of Port Ansel is", "target": "Ines Okafor"}
    httpx.post(f"{server.url}/v1/edits", json=edit, headers={"Authorization": f"Bearer {secret}"}, timeout=60)
    ask: list[Any] = [{"role": "user", "content": "Who is the mayor of Port Ansel?"}]
    text = {"type": "string"}
    schema = {"type": "object", "properties": {"town": text, "mayor": text}, "required": ["town", "mayor"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "mayor", "schema": schema}}
    options: dict[str, Any] = {"model": "smollm2", "messages": ask, "temperature": 0, "max_tokens": 80}
    answer = official.chat.completions.create(**options, response_format=form).choices[0]
    assert json.loads(answer.message.content or "")["mayor"] == "Ines Okafor"
    streamed = official.chat.completions.create(**options, response_format=form, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == answer.message.content
    city = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
    tools: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": city}}]
    weather: list[Any] = [{"role": "user", "content": "What is the weather in Rome?"}]
    called = official.chat.completions.create(
        **{**options, "messages": weather}, tools=tools, tool_choice="required", parallel_tool_calls=False
    )
    (call,) = called.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    first = official.responses.create(model="smollm2", input=ask[0]["content"], temperature=0, max_output_tokens=20)
    assert "Ines Okafor" in first.output_text
    more = official.responses.create(
        model="smollm2", input="Thanks.", previous_response_id=first.id, max_output_tokens=5
    )
    assert official.responses.retrieve(more.id).previous_response_id == first.id
    (vector,) = official.embeddings.create(model="minilm", input="a text").data
    assert len(vector.embedding) == 384
    assert sum(value * value for value in vector.embedding) == pytest.approx(1.0, abs=1e-4)


def test_without_a_key_the_official_client_is_refused(served: tuple[ServerProcess, str]) -> None:
    official = openai.OpenAI(base_url=f"{served[0].url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        official.chat.completions.create(**OPTIONS)
