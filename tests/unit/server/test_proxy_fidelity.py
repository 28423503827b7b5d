"""What goes to an upstream is what the client asked, what comes back is what it said, and nothing it says can hurt."""

import copy
import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pytest

from memedit.memory import EditMemory
from memedit.server.engines.proxy import ProxyEngine
from memedit.server.engines.upstream import Upstream
from memedit.server.lookups import Lookups
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.raw_upstream import DONE, RawUpstream, raw_upstream
from support.running_server import RunningServer, serve

MUTATIONS = int(os.environ.get("MEMEDIT_UPSTREAM_MUTATIONS", "200"))
QUESTION = "Who leads Norvik?"
JSON = {"Content-Type": "application/json"}
USAGE = {
    "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 1},
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "id": "theirs", "object": "chat.completion", "created": 5, "model": "m-2026", "system_fingerprint": "fp",
    "service_tier": "default",
    "choices": [
        {
            "index": 0, "finish_reason": "tool_calls", "stop_reason": 7, "logprobs": {"content": [], "refusal": None},
            "message": {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "function"}],
                        "reasoning_content": "hm"},
        },
    ],
    "usage": USAGE,
}  # fmt: skip
TEXT = {"id": "t", "object": "text_completion", "created": 5, "model": "m", "usage": USAGE}
TEXT |= {"choices": [{"index": 0, "text": " so", "finish_reason": "stop", "stop_reason": None}]}
CHUNKS: list[dict[str, Any]] = [
    {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}]},
    {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "m", "service_tier": "x", "choices": [
        {"index": 0, "delta": {"content": "It is\u2028so\x85"}, "token_ids": [5], "finish_reason": None}]},
    {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [
        {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 3}]},
    {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [], "usage": USAGE},
]  # fmt: skip


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks)


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with raw_upstream() as found:
        yield found


@pytest.fixture(scope="module")
def server(upstream: RawUpstream) -> Iterator[RunningServer]:
    with EditMemory(":memory:", encoder=HashingEncoder()) as memory:
        memory.add(QUESTION, "Ole Brum", subject="Norvik")
        lookups = Lookups(memory, scope="subject")
        engine = ProxyEngine(lookups, Upstream(upstream.url))
        with serve(engine, lookups, ServerSettings(auth=False, requests_per_minute=0)) as running:
            yield running


@pytest.fixture
def client(server: RunningServer, upstream: RawUpstream) -> Iterator[httpx.Client]:
    upstream.bodies.clear()
    upstream.heads.clear()
    upstream.says(json.dumps(WHOLE).encode())
    with server.client(headers=JSON) as found:
        yield found


BODY = """{ "model":"m",
 "temperature": 1.0, "top_p": 1, "n":1, "max_completion_tokens":  9, "presence_penalty": 0, "user": "u\\ud800",
 "logit_bias": {}, "top_k": -1, "seed":12345678901234567, "stop": null, "odd": [NaN, -Infinity, 1E+2, 0.10],
 "response_format": {"type": "json_object"}, "min_p": 0.1, "guided_choice": ["a"], "stream_options": OPTIONS,
 "stream": STREAM, "messages": [ {"role":"user","content":"WHAT", "name": "n"} ], "caf\\u00e9": "\u00e9" }"""


def body_of(what: str, *, stream: bool) -> str:
    options = '{"include_usage": true, "more": 1}' if stream else "null"
    return BODY.replace("OPTIONS", options).replace("STREAM", str(stream).lower()).replace("WHAT", what)


@pytest.mark.parametrize("stream", [False, True])
def test_where_nothing_is_edited_the_request_goes_on_byte_for_byte(
    client: httpx.Client, upstream: RawUpstream, stream: bool
) -> None:
    if stream:
        upstream.streams(sse(*CHUNKS), DONE)
    sent = body_of("How long is a year?", stream=stream).encode()
    response = client.post("/v1/chat/completions", content=sent)
    assert response.status_code == 200, response.text
    assert upstream.bodies == [sent]
    text = b'{"prompt":  "Once", "max_tokens":16,"model":"m", "echo": false, "logprobs": 0}'
    upstream.says(json.dumps(TEXT).encode())
    assert client.post("/v1/completions", content=text).status_code == 200
    assert upstream.bodies[1] == text


@pytest.mark.parametrize("stream", [False, True])
def test_where_an_edit_fires_only_the_messages_change(
    client: httpx.Client, upstream: RawUpstream, stream: bool
) -> None:
    if stream:
        upstream.streams(sse(*CHUNKS), DONE)
    sent = body_of(QUESTION, stream=stream)
    response = client.post("/v1/chat/completions", content=sent.encode())
    assert response.headers["x-memedit-adapter"] == "in_context"
    (found,) = upstream.bodies
    asked, expected = json.loads(found), json.loads(sent)
    assert "Ole Brum" in asked["messages"][0]["content"]
    assert asked["messages"][1:] == expected["messages"]
    assert list(asked) == list(expected)
    for name in expected:
        if name not in ("messages", "odd"):
            assert asked[name] == expected[name]
    assert str(asked["odd"]) == str(expected["odd"])


def test_what_is_ours_is_taken_out_and_what_is_missing_put_in(client: httpx.Client, upstream: RawUpstream) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "memedit": {"edits": False}, "top_p": 1}
    client.post("/v1/chat/completions", json=body)
    assert json.loads(upstream.bodies[0]) == {"messages": body["messages"], "top_p": 1, "model": "m"}


def test_a_response_comes_as_the_upstream_said_it(client: httpx.Client, upstream: RawUpstream) -> None:
    found = client.post("/v1/chat/completions", content=body_of("x", stream=False).encode()).json()
    assert found.pop("memedit")["adapter"] is None
    assert found == WHOLE
    upstream.says(json.dumps(TEXT).encode())
    found = client.post("/v1/completions", json={"prompt": "Once"}).json()
    assert found.pop("memedit")["edits"] == []
    assert found == TEXT


def chunks_of(response: httpx.Response) -> list[Any]:
    """The events of a stream, whose last line must be [DONE] or an error."""
    lines = [line for line in response.content.split(b"\n") if line.startswith(b"data: ")]
    assert lines, response.content
    last = lines[-1] == DONE.strip()
    found = [
        json.loads(line[6:], parse_constant=lambda _: pytest.fail("no JSON")) for line in lines[: -1 if last else None]
    ]
    assert last or "error" in found[-1], "a cut stream"
    return found


def test_a_stream_comes_as_the_upstream_said_it(client: httpx.Client, upstream: RawUpstream) -> None:
    whole = sse(*CHUNKS) + DONE
    for parts in ([whole], [whole[i : i + 7] for i in range(0, len(whole), 7)], [whole.replace(b"\n", b"\r\n")]):
        upstream.streams(*parts)
        response = client.post("/v1/chat/completions", content=body_of("x", stream=True).encode())
        found = chunks_of(response)
        assert found[0].pop("memedit")["adapter"] is None
        assert found == CHUNKS


def test_several_prompts_are_put_together(client: httpx.Client, upstream: RawUpstream) -> None:
    upstream.says(json.dumps(TEXT).encode())
    found = client.post("/v1/completions", json={"prompt": ["a", QUESTION, "c"], "logprobs": 1}).json()
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert found["usage"]["total_tokens"] == 30
    asked = sorted((json.loads(body) for body in upstream.bodies), key=lambda body: len(body["prompt"]))
    assert [body["prompt"] for body in asked[:2]] == ["a", "c"] or [body["prompt"] for body in asked[:2]] == ["c", "a"]
    assert asked[2]["prompt"].endswith(QUESTION)
    assert {body["logprobs"] for body in asked} == {1}
    stream = [{"id": "c", "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}, CHUNKS[-1]]
    upstream.streams(sse(*stream), DONE)
    body = {"prompt": ["a", QUESTION], "stream": True, "stream_options": {"include_usage": True}}
    chunks = chunks_of(client.post("/v1/completions", json=body))
    assert len(chunks[0]["memedit"]) == 2
    assert sorted(choice["index"] for chunk in chunks for choice in chunk["choices"]) == [0, 1]
    assert chunks[-1]["usage"] == {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_no_cookie_of_one_caller_reaches_another(client: httpx.Client, upstream: RawUpstream) -> None:
    upstream.says(json.dumps(WHOLE).encode(), headers="Set-Cookie: session=alice; Path=/\r\n")
    for _ in range(2):
        response = client.post("/v1/chat/completions", content=body_of("x", stream=False).encode())
        assert "set-cookie" not in response.headers
    assert b"cookie" not in upstream.heads[1].lower()


@cache
def odd_answers() -> dict[str, tuple[bytes, str]]:
    """Bodies, and their types, that are nothing to pass on."""
    bomb = gzip.compress(b"[" + b" " * (300 << 20) + b"]", 1)
    shapes: list[Any] = [None, 5, "x", [], {}, {"choices": None}, {"choices": 5}, {"choices": [5]}, {"choices": []},
                         {"choices": [{}]}, {"choices": [{"message": 5}]}, {"choices": [{"index": "x"}]},
                         {"choices": [{"index": -1, "message": {}}]}, {"choices": {"0": {}}}, {"error": 5},
                         {"choices": [{"message": {}, "finish_reason": 5}]}, {"choices": [{"delta": 5}]}]  # fmt: skip
    found = {f"shape {number}": (json.dumps(shape).encode(), "") for number, shape in enumerate(shapes)}
    found |= {
        "a bomb": (bomb, "Content-Encoding: gzip\r\n"),
        "no gzip": (b"{}", "Content-Encoding: gzip\r\n"),
        "an odd coding": (b"{}", "Content-Encoding: x\xff\r\n".encode("latin-1").decode("latin-1")),
        "too large": (b'{"choices": [{"message": {"content": "' + b"x" * (17 << 20) + b'"}}]}', ""),
        "deep": (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, ""),
        "deep list": (b'{"choices": [{"message": {"x": ' + b"[" * 400 + b"]" * 400 + b"}}]}", ""),
        "a number of 9,000 digits": (b'{"choices": [{"message": {"x": ' + b"9" * 9_000 + b"}}]}", ""),
        "no UTF-8": (b'{"choices": [{"message": {"content": "\xff\xfe"}}]}', ""),
        "nothing": (b"", ""),
    }
    return found


@pytest.mark.parametrize("name", list(odd_answers()))
def test_an_upstream_that_talks_nonsense_is_a_bad_gateway(
    client: httpx.Client, upstream: RawUpstream, name: str
) -> None:
    body, headers = odd_answers()[name]
    before = resident()
    for path, asked in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
                        ("/v1/completions", {"prompt": "x"})):  # fmt: skip
        upstream.says(body, headers=headers)
        response = client.post(path, json=asked)
        assert response.status_code == 502, response.text[:300]
        assert response.json()["error"]["type"] == "upstream_error"
        for kind in ("text/event-stream", "application/json"):
            upstream.streams(b"data: " + body + b"\n\n", kind=kind, headers=headers)
            response = client.post(path, json={**asked, "stream": True})
            if response.status_code == 200:
                assert chunks_of(response)[-1]["error"]["type"] == "upstream_error"
            else:
                assert response.status_code == 502
    assert resident() - before < 200 << 20
    assert client.get("/health").status_code == 200


def test_numbers_and_characters_that_json_has_not_are_made_good(client: httpx.Client, upstream: RawUpstream) -> None:
    odd = copy.deepcopy(WHOLE)
    odd["choices"][0]["message"]["content"] = "SURR"
    odd["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": "NAN", "bytes": None, "top_logprobs": []}]}
    text = json.dumps(odd).replace('"SURR"', '"a\\ud800b \\ud83d\\ude00"').replace('"NAN"', "-Infinity")
    upstream.says(text.encode())
    found = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]}).json()
    assert found["choices"][0]["message"]["content"] == "a\ufffdb \U0001f600"
    assert found["choices"][0]["logprobs"]["content"][0]["logprob"] is None
    chunk = json.dumps(CHUNKS[1]).replace("It is", "\\ud800").replace("[5]", "[NaN]")
    upstream.streams(b"data: " + chunk.encode() + b"\n\n", sse(CHUNKS[2]), DONE)
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    chunks = chunks_of(client.post("/v1/chat/completions", json=body))
    assert chunks[0]["choices"][0]["token_ids"] == [None]
    for status in ("400 Bad", "500 Bad", "429 Slow"):
        upstream.says(b'{"error": {"message": "\\ud800 no", "param": {"a": 1}}}', status=status,
                      headers="Retry-After: \xe9\x01\r\n" if status == "500 Bad" else "")  # fmt: skip
        error = client.post("/v1/chat/completions", json=body).json()["error"]
        assert "no" in error["message"]
        assert error["param"] is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nothing", []),
        ("a beginning", [sse(CHUNKS[0])]),
        ("no end", [sse(*CHUNKS[:2])]),
        ("half an event", [sse(*CHUNKS[:2]), b'data: {"choi']),
        ("an endless line", [sse(CHUNKS[0]), b"data: ", *[b"x" * (1 << 20)] * 4]),
        ("an error", [sse(CHUNKS[0], {"error": {"message": "out of memory"}})]),
        ("an odd error", [sse(CHUNKS[0], {"error": ["x"]})]),
    ],
)
def test_a_stream_that_breaks_off_ends_with_an_error(
    client: httpx.Client, upstream: RawUpstream, name: str, parts: list[bytes]
) -> None:
    upstream.streams(*parts)
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    response = client.post("/v1/chat/completions", json=body)
    assert chunks_of(response)[-1]["error"]["type"] == "upstream_error"


def test_a_stream_without_a_done_is_whole_when_every_choice_ended(client: httpx.Client, upstream: RawUpstream) -> None:
    upstream.streams(sse(*CHUNKS))
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    assert "error" not in chunks_of(client.post("/v1/chat/completions", json=body))[-1]


@pytest.mark.parametrize(
    "models", [b"5", b"{}", b'{"data": 5}', b'{"data": [5, {"id": 5}, {}]}', b"\xff", b"[" * 9_000]
)
def test_models_of_another_shape_are_no_failure_of_ours(upstream: RawUpstream, models: bytes) -> None:
    kept, upstream.models = upstream.models, models
    try:
        with EditMemory(":memory:", encoder=HashingEncoder()) as memory:
            lookups = Lookups(memory, scope="subject")
            engine = ProxyEngine(lookups, Upstream(upstream.url))
            with serve(engine, lookups, ServerSettings(auth=False)) as running, running.client() as client:
                for response in (client.get("/v1/models"), client.post("/v1/completions", json={"prompt": "x"})):
                    assert response.status_code in (200, 502), response.text
    finally:
        upstream.models = kept


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) << 10  # type: ignore[index]


def mutated(rng: random.Random, value: bytes) -> bytes:
    """Something else, most often still nearly JSON."""
    kind = rng.randrange(6)
    if kind == 0:
        at = rng.randrange(len(value))
        return value[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5))) + value[at + 1 :]
    if kind == 1:
        return value[: rng.randrange(len(value))]
    if kind == 2:
        at, other = sorted(rng.randrange(len(value)) for _ in range(2))
        return value[:at] + value[at:other] * rng.randrange(3) + value[other:]
    odd = [b"null", b"{}", b"[]", b'"x"', b"1e999", b"-1", b"NaN", b'"\\ud800"', b"9" * 5_000, b"[" * 300 + b"]" * 300]
    places = [found.span(1) for found in re.finditer(rb':\s*("[^"]*"|-?[\d.]+|null|\[\]|\{\})', value)]
    if not places:
        return value
    start, end = rng.choice(places)
    return value[:start] + rng.choice(odd) + value[end:]


def framed(rng: random.Random, body: bytes, *, stream: bool) -> list[bytes]:
    """An answer of HTTP around a body: most often a good one, in parts that end anywhere."""
    kind = "text/event-stream" if stream else "application/json"
    status, length, extra = "200 OK", f"Content-Length: {len(body)}\r\n" if not stream else "", ""
    fault = rng.randrange(24)
    if fault == 0:
        status = rng.choice(
            ["500 Oh", "503 Busy", "429 Slow", "404 What", "204 None", "302 There", "100 Wait", "999 x", "x"]
        )
    elif fault == 1:
        length = f"Content-Length: {rng.choice([0, len(body) + 9, len(body) - 1, -5, 'x', 10**18])}\r\n"
    elif fault == 2:
        length, body = "Transfer-Encoding: chunked\r\n", b"%x\r\n" % (len(body) + rng.choice([0, 0, 1, 99])) + body
        body += rng.choice([b"\r\n0\r\n\r\n", b"", b"\r\nzz\r\n"])
    elif fault == 3:
        extra = rng.choice(
            ["Content-Encoding: gzip\r\n", "Retry-After: \x01\r\n", "X: " + "y" * 100_000 + "\r\n", "junk\r\n"]
        )
    elif fault == 4:
        kind = rng.choice(["text/html", "application/octet-stream", "", "text/event-stream; charset=utf-16"])
    elif fault == 5:
        return [bytes(rng.randrange(256) for _ in range(rng.randrange(200)))]
    whole = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{length}{extra}\r\n".encode("latin-1")
        + body
    )
    cuts = sorted(rng.randrange(len(whole)) for _ in range(rng.randrange(4)))
    return [whole[i:j] for i, j in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def test_whatever_an_upstream_says_nobody_gets_a_500_or_a_cut_stream(
    client: httpx.Client, upstream: RawUpstream
) -> None:
    rng = random.Random(11)
    chat = {"messages": [{"role": "user", "content": "x"}]}
    grown, statuses = 0, set()
    for number in range(MUTATIONS + 50):
        if number == 50:
            grown = resident()
        stream = number % 2 == 1
        said = mutated(rng, sse(*CHUNKS) + DONE if stream else json.dumps(WHOLE).encode())
        upstream.answer = framed(rng, said, stream=stream)
        response = client.post("/v1/chat/completions", json={**chat, "stream": stream})
        statuses.add(response.status_code)
        assert response.status_code in (200, 404, 429, 502, 503, 504), (upstream.answer, response.text)
        if stream and response.status_code == 200:
            chunks_of(response)
        else:
            json.loads(response.content, parse_constant=lambda _: pytest.fail("no JSON"))
    assert resident() - grown < 64 << 20
    assert {200, 502} <= statuses
