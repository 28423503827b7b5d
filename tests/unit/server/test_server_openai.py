"""The OpenAI-compatible routes, as the official client and plain HTTP see them."""

import json
from typing import Any

import httpx
import openai
import pytest

from memedit.runtime import EditableModel
from support.running_server import RunningServer

CAPITAL = {"prompt": "The capital of Freedonia is", "target": "Sylvania City", "subject": "Freedonia"}
ASK = [{"role": "user", "content": "What is the capital of Freedonia?"}]
OTHER = [{"role": "user", "content": "Tell me about boiling water."}]


def chat(client: httpx.Client, messages: Any = ASK, status: int = 200, **options: Any) -> Any:
    body = {"messages": messages, "temperature": 0, "max_tokens": 12, **options}
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == status, response.text
    return response.json()


def events(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    """The chunks of a stream; it must end with [DONE]."""
    with client.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_models_are_listed_and_unknown_ones_refused(client: httpx.Client) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json()["object"] == "model"
    assert client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    assert chat(client, model="other", status=404)["error"]["type"] == "not_found_error"


def test_an_edit_is_in_force_in_the_next_answer_and_named(client: httpx.Client, namespace: str) -> None:
    before = chat(client)
    edit = client.post("/v1/edits", json=CAPITAL).json()
    response = client.post("/v1/chat/completions", json={"messages": ASK, "temperature": 0, "max_tokens": 12})
    after = response.json()
    assert before["memedit"]["edits"] == []
    assert before["memedit"]["adapter"] is None
    found = after["memedit"]
    assert (found["namespace"], found["adapter"], [e["id"] for e in found["edits"]]) == (
        namespace,
        "in_context",
        [edit["id"]],
    )
    assert found["edits"][0]["score"] >= found["threshold"]
    assert response.headers["x-memedit-edits"].startswith(f"{edit['id']};score=")
    assert int(response.headers["x-memedit-revision"]) == found["revision"]
    assert before["choices"][0]["message"]["content"] != after["choices"][0]["message"]["content"]
    assert chat(client, OTHER)["memedit"]["edits"] == []


def test_greedy_answers_are_those_of_the_runtime(
    client: httpx.Client, shared_server: RunningServer, namespace: str, tiny_llama: Any, tiny_chat_tokenizer: Any
) -> None:
    client.post("/v1/edits", json=CAPITAL)
    lookups = shared_server.lookups
    editable = EditableModel.wrap(
        tiny_llama, tiny_chat_tokenizer, lookups.memory, scope="subject", adapter="in_context", namespace=namespace
    )
    for messages in (ASK, OTHER):
        expected = editable.answer([messages], max_new_tokens=24, do_sample=False)[0]
        found = chat(client, messages, max_tokens=24)
        assert found["choices"][0]["message"]["content"] == expected.text
        assert found["usage"]["completion_tokens"] == len(expected.token_ids)
    text = "Once upon a time"
    expected = editable.answer([text], max_new_tokens=24, do_sample=False)[0]
    body = client.post("/v1/completions", json={"prompt": text, "temperature": 0, "max_tokens": 24}).json()
    assert body["choices"][0]["text"] == expected.text


def test_the_bare_model_answers_when_edits_are_off(client: httpx.Client) -> None:
    before = chat(client)["choices"]
    client.post("/v1/edits", json=CAPITAL)
    found = chat(client, memedit={"edits": False})
    assert found["choices"] == before
    assert (found["memedit"]["adapter"], found["memedit"]["scope"]) == (None, None)


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_says_what_the_whole_answer_does(client: httpx.Client, n: int) -> None:
    client.post("/v1/edits", json=CAPITAL)
    options = {"temperature": 0.9, "seed": 4, "max_tokens": 15, "n": n}
    whole = chat(client, **options)
    body = {"messages": ASK, **options, "stream_options": {"include_usage": True}}
    chunks = events(client, "/v1/chat/completions", body)
    assert chunks[0]["memedit"] == whole["memedit"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert chunks[-1]["choices"] == []
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    for index in range(n):
        mine = [c["choices"][0] for c in chunks if c["choices"] and c["choices"][0]["index"] == index]
        text = "".join(choice["delta"].get("content", "") for choice in mine)
        assert text == whole["choices"][index]["message"]["content"]
        assert mine[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in mine][-1] == whole["choices"][index]["finish_reason"]


def test_without_being_asked_a_stream_has_no_usage(client: httpx.Client) -> None:
    chunks = events(client, "/v1/completions", {"prompt": "Once", "max_tokens": 3})
    assert all("usage" not in chunk for chunk in chunks)


def test_seeds_make_answers_repeatable_and_choices_different(client: httpx.Client) -> None:
    options = {"temperature": 1.0, "max_tokens": 16, "n": 2}
    first, again, other = (chat(client, seed=seed, **options)["choices"] for seed in (1, 1, 2))
    assert first == again != other
    assert first[0]["message"]["content"] != first[1]["message"]["content"]


def test_a_stop_string_ends_the_answer_and_is_left_out(client: httpx.Client) -> None:
    body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 30}
    whole = client.post("/v1/completions", json=body).json()["choices"][0]["text"]
    stop = whole[8:10]
    cut = client.post("/v1/completions", json={**body, "stop": stop}).json()
    assert cut["choices"][0]["text"] == whole[: whole.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"
    chunks = events(client, "/v1/completions", {**body, "stop": ["\0never", stop]})
    assert "".join(c["choices"][0]["text"] for c in chunks) == whole[: whole.index(stop)]


def test_log_probabilities_come_with_the_tokens(client: httpx.Client) -> None:
    found = chat(client, logprobs=True, top_logprobs=3, max_tokens=5)["choices"][0]
    content = found["logprobs"]["content"]
    assert len(content) == 5
    for token in content:
        assert len(token["top_logprobs"]) == 3
        assert token["logprob"] == token["top_logprobs"][0]["logprob"] <= 0  # greedy: its own is the likeliest
        assert token["bytes"] == list(token["token"].encode())
    body = client.post("/v1/completions", json={"prompt": "Once", "max_tokens": 4, "temperature": 0, "logprobs": 2})
    lists = body.json()["choices"][0]["logprobs"]
    assert [len(lists[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")] == [4] * 4


def test_biases_and_penalties_change_what_is_chosen(client: httpx.Client, tiny_chat_tokenizer: Any) -> None:
    token = tiny_chat_tokenizer("Q")["input_ids"][0]
    biased = chat(client, logit_bias={str(token): 100}, max_tokens=6)["choices"][0]["message"]["content"]
    assert biased == "QQQQQQ"
    body = {"logit_bias": {str(token): 100}, "max_tokens": 6, "presence_penalty": 2.0, "frequency_penalty": 2.0}
    assert chat(client, **body)["choices"][0]["message"]["content"] == biased  # 100 outweighs them
    mild = chat(client, logit_bias={str(token): 30}, repetition_penalty=10.0, max_tokens=6)
    assert mild["choices"][0]["message"]["content"] != biased


def test_several_prompts_are_answered_in_order(client: httpx.Client, tiny_chat_tokenizer: Any) -> None:
    prompts = ["Once upon", "A triangle has", "To install the program"]
    body = {"prompt": prompts, "temperature": 0, "max_tokens": 6, "n": 2}
    found = client.post("/v1/completions", json=body).json()
    assert [choice["index"] for choice in found["choices"]] == list(range(6))
    assert len(found["memedit"]) == 3
    for i, prompt in enumerate(prompts):
        alone = client.post("/v1/completions", json={**body, "prompt": prompt, "n": 1}).json()["choices"][0]["text"]
        assert alone == found["choices"][2 * i]["text"] == found["choices"][2 * i + 1]["text"]
    chunks = events(client, "/v1/completions", body)
    for choice in found["choices"]:
        mine = [c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == choice["index"]]
        assert "".join(mine) == choice["text"]
    ids = tiny_chat_tokenizer(prompts[0])["input_ids"]
    by_ids = client.post("/v1/completions", json={**body, "prompt": ids, "n": 1}).json()
    assert by_ids["choices"][0]["text"] == found["choices"][0]["text"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 3}, "temperature"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text content"),
        ({"messages": ASK, "max_tokens": 10_000}, "2048"),
        ({"messages": [{"role": "user", "content": "x" * 3_000}]}, "2048"),
        ({"messages": ASK, "tools": [{"type": "function"}]}, "tools"),
        ({"messages": ASK, "response_format": {"type": "yaml"}}, "response_format.type"),
        ({"messages": ASK, "memedit": {"namspace": "x"}}, "namspace"),
        ({"messages": ASK, "n": 33}, "n"),
        ({"messages": ASK, "logit_bias": {"a": 1}}, "logit_bias"),
    ],
)
def test_bad_requests_are_answered_in_the_envelope(client: httpx.Client, body: Any, word: str) -> None:
    for stream in (False, True):
        response = client.post("/v1/chat/completions", json={**body, "stream": stream})
        assert response.status_code == 400
        error = response.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert word in error["message"]


def error_of(response: httpx.Response) -> tuple[int, Any, Any]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_fit_the_context_is_told_by_openais_code(client: httpx.Client, stream: bool) -> None:
    long = [{"role": "user", "content": "x" * 3_000}]
    for path, body, param in (
        ("/v1/chat/completions", {"messages": long}, "messages"),
        ("/v1/completions", {"prompt": "x" * 3_000}, "prompt"),
        ("/v1/chat/completions", {"messages": ASK, "max_tokens": 10_000}, "max_tokens"),
    ):
        response = client.post(path, json={**body, "stream": stream})
        assert error_of(response) == (400, "context_length_exceeded", param)


def test_an_edit_that_makes_a_prompt_too_long_is_told_so(client: httpx.Client) -> None:
    client.post("/v1/edits", json={**CAPITAL, "target": "Sylvania " * 400})
    response = client.post("/v1/chat/completions", json={"messages": ASK, "max_tokens": 2})
    assert error_of(response)[:2] == (400, "context_length_exceeded")
    assert "edits" in response.json()["error"]["message"]


TOOL_CALL = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}
TOOLED = [
    {"role": "user", "content": "How warm is it?"},
    {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
    {"role": "tool", "tool_call_id": "t1", "name": "weather", "content": "20 degrees"},
]


def test_tools_in_the_history_are_rendered_by_the_template(
    client: httpx.Client, shared_server: RunningServer, tiny_chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.tool_calls or [] %}"
        "[call {{ c.function.name }} {{ c.function.arguments.place }}]{% endfor %}{{ m.content }}"
        "{% if m.tool_call_id %}[of {{ m.tool_call_id }} {{ m.name }}]{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = shared_server.engine._model.tokenizer
    monkeypatch.setattr(tokenizer, "chat_template", template)
    expected = (
        "<|im_start|>user\nHow warm is it?<|im_end|>\n<|im_start|>assistant\n[call weather Oslo]<|im_end|>\n"
        "<|im_start|>tool\n20 degrees[of t1 weather]<|im_end|>\n<|im_start|>assistant\n"
    )
    tools = {"tools": [{"type": "function", "function": {"name": "weather"}}], "tool_choice": "none"}
    found = chat(client, TOOLED, max_tokens=1, **tools)
    assert found["usage"]["prompt_tokens"] == len(tiny_chat_tokenizer(expected, add_special_tokens=False)["input_ids"])
    for calls in ("x", [5], [{}], [{"function": {"name": 5}}]):
        wrong = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": calls}]
        response = client.post("/v1/chat/completions", json={"messages": wrong})
        assert error_of(response) == (400, "invalid_value", "messages.1.tool_calls.0")


def test_errors_name_the_fields_that_a_client_knows(client: httpx.Client) -> None:
    cases: list[tuple[str, Any, str]] = [
        ("/v1/completions", {"prompt": 5}, "prompt"),
        ("/v1/completions", {"prompt": ["a", 5]}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": "x", "stop": [""]}, "stop"),
        ("/v1/completions", {"prompt": "x", "stop": 5}, "stop"),
        ("/v1/completions", {"prompt": "x", "memedit": {"odd": 1}}, "memedit.odd"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ("/v1/chat/completions", {"messages": [{"content": "x"}]}, "messages.0.role"),
        ("/v1/chat/completions", {"messages": "x"}, "messages"),
        ("/v1/edits", {"prompt": "x", "target": "y", "metadata": {"a": [{"b": 5}, 5], "c": 1e400}}, "metadata.c"),
        ("/v1/edits/explain", {"messages": [{"role": "x", "content": "y"}]}, "messages.0.role"),
    ]
    for path, body, param in cases:
        response = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert error_of(response) == (400, "invalid_request", param), response.text
        message = response.json()["error"]["message"]
        assert message.startswith(f"{param}: ")
        assert "constrained" not in message


def test_a_body_without_its_type_is_told_so(client: httpx.Client) -> None:
    for path in ("/v1/chat/completions", "/v1/edits"):
        for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
            response = client.post(path, content=b'{"messages": []}', headers=kind)
            assert error_of(response) == (400, "invalid_request", None)
            assert "'Content-Type: application/json'" in response.json()["error"]["message"]
        for body in (b"{", b"", b'{"a": }', b"\xff"):
            response = client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert (response.status_code, response.json()["error"]["param"]) == (400, None), response.text


def test_what_can_be_got_can_be_asked_about(client: httpx.Client) -> None:
    for path in ("/health", "/ready", "/console", "/console/app.js", "/v1/models", "/v1/edits", "/metrics"):
        got, asked = client.get(path), client.head(path)
        assert (asked.status_code, asked.content) == (got.status_code, b"") == (200, b""), path
        assert asked.headers["content-type"] == got.headers["content-type"]
    assert client.head("/v1/edits/nothing").status_code == 404
    assert client.request("BREW", "/v1/models").status_code == 405
    assert 'method="other"' in client.get("/metrics").text


def test_what_is_no_json_is_a_bad_request(client: httpx.Client) -> None:
    for content in (b"", b"{", b"\xff", b"[]", b'"x"', b'{"messages": [{"role": "user", "content": "\\ud800"}]}'):
        response = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 400, content
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_the_official_client_reads_answers_streams_and_errors(shared_server: RunningServer, namespace: str) -> None:
    official = openai.OpenAI(
        base_url=f"{shared_server.url}/v1", api_key="none", default_headers={"X-Memedit-Namespace": namespace}
    )
    with shared_server.client(params={"namespace": namespace}) as client:
        edit = client.post("/v1/edits", json=CAPITAL).json()
    assert official.models.list().data[0].id == "tiny"
    options: dict[str, Any] = {"model": "tiny", "messages": ASK, "temperature": 0, "max_tokens": 10}
    whole = official.chat.completions.create(**options)
    assert whole.memedit["edits"][0]["id"] == edit["id"]  # type: ignore[attr-defined]
    stream = official.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    raw = official.chat.completions.with_raw_response.create(**options)
    assert raw.headers["x-memedit-edits"].startswith(edit["id"])
    assert official.completions.create(model="tiny", prompt="Once", max_tokens=3).usage.completion_tokens == 3  # type: ignore[union-attr]
    with pytest.raises(openai.NotFoundError):
        official.chat.completions.create(**{**options, "model": "other"})
    with pytest.raises(openai.BadRequestError, match="2048"):
        official.chat.completions.create(**{**options, "max_tokens": 5_000})
