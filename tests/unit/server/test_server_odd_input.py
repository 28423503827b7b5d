"""Input of odd shapes: refused with a 4xx that says why, and the connection stays of use."""

import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from memedit.memory import EditMemory
from memedit.memory.schema import edits
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve

SKY = {"prompt": "The colour of the sky is", "target": "green", "subject": "sky"}
SURROGATE = '"\\ud800"'


def nested(depth: int, inner: str = "1") -> str:
    return "[" * depth + inner + "]" * depth


ODD_METADATA = {
    "a lone surrogate": f'{{"a": {SURROGATE}}}',
    "a lone surrogate as a key": f"{{{SURROGATE}: 1}}",
    "a lone surrogate within": f'{{"a": [{SURROGATE}]}}',
    "deep": f'{{"a": {nested(60)}}}',
    "deeper": f'{{"a": {nested(300)}}}',
    "too deep for any reader": f'{{"a": {nested(20_000)}}}',
    "deep objects": '{"a":' * 200 + "1" + "}" * 200,
    "infinite": '{"a": 1e999}',
    "no number": '{"a": NaN}',
    "a number of 5,000 digits": f'{{"a": {"9" * 5_000}}}',
}


@pytest.mark.parametrize("name", list(ODD_METADATA))
def test_metadata_that_cannot_be_kept_is_refused_wherever_it_comes_in(client: httpx.Client, name: str) -> None:
    edit = client.post("/v1/edits", json=SKY).json()
    other = f'{{"prompt": "x is", "target": "y", "metadata": {ODD_METADATA[name]}}}'
    patch = f'{{"metadata": {ODD_METADATA[name]}}}'
    place, kind = f"/v1/edits/{edit['id']}", {"Content-Type": "application/json"}
    refused = [
        client.post("/v1/edits", content=other, headers=kind),
        client.post("/v1/edits/batch", content=f'{{"edits": [{other}]}}', headers=kind),
        client.post("/v1/edits/import", content=other),
        client.post("/v1/edits/import", content=f"[{other}]"),
        client.patch(place, content=patch, headers=kind),
        client.post(f"{place}/supersede", content=patch, headers=kind),
    ]
    for response in refused:
        assert response.status_code == 400, (response.request.url, response.text[:300])
        assert len(response.json()["error"]["message"]) < 1_000
    listed = client.get("/v1/edits", params={"metadata": ODD_METADATA[name][:4_000]})
    assert listed.status_code == 400, listed.text
    assert [e["id"] for e in client.get("/v1/edits").json()["data"]] == [edit["id"]]


def test_deep_metadata_of_earlier_versions_can_be_read(shared_server: RunningServer, client: httpx.Client) -> None:
    edit = client.post("/v1/edits", json=SKY).json()
    for depth in (60, 300, 20_000):
        with shared_server.lookups.memory._database.write() as connection:
            text = f'{{"a": {nested(depth)}}}'
            connection.execute(update(edits).where(edits.c.id == edit["id"]).values(metadata=text))
        found = client.get("/v1/edits").json()["data"][0]["metadata"]
        assert found == {"json": text}
        assert client.get("/v1/edits/export").status_code == client.get("/v1/audit").status_code == 200
        assert client.patch(f"/v1/edits/{edit['id']}", json={"metadata": {"n": depth}}).status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"q": " ".join(f"word{i}" for i in range(1_200))},
        {"q": "\ufdf2" * 7_000},
        {"q": "%" * 10_000},
        {"q": "_/" * 5_000},
        {"q": "x" * 10_001},
        {"q": ""},
        {"q": "a", "mode": "none"},
        {"q": "a", "limit": 10**30},
    ],
)
def test_a_search_that_cannot_be_made_is_a_bad_request(client: httpx.Client, params: dict[str, Any]) -> None:
    client.post("/v1/edits", json=SKY)
    response = client.get("/v1/edits/search", params=params)
    assert response.status_code in (200, 400), response.text
    assert (response.status_code == 200) == (set(params["q"]) <= set("%_/") and params["q"] != "")
    if response.status_code == 200:
        assert response.json()["data"] == []


def test_a_search_by_words_may_repeat_itself(client: httpx.Client) -> None:
    client.post("/v1/edits", json=SKY)
    found = client.get("/v1/edits/search", params={"q": "sky " * 2_000}).json()["data"]
    assert [hit["edit"]["target"] for hit in found] == ["green"]
    long = client.get("/v1/edits/search", params={"q": " ".join(f"w{i}" for i in range(1_500)), "mode": "semantic"})
    assert long.status_code == 200


@pytest.mark.parametrize(
    "messages",
    [
        f'[{{"role": "user", "content": {SURROGATE}}}]',
        f'[{{"role": "user", "content": [{{"type": "text", "text": {SURROGATE}}}]}}]',
        '[{"role": "user", "content": {"a": 1}}]',
        '[{"role": 5, "content": "x"}]',
        '[{"role": "user"}]',
        '[{"role": "user", "content": []}]',
        f'[{{"role": "user", "content": {nested(20_000)}}}]',
        "[]",
    ],
)
def test_odd_chats_are_refused(client: httpx.Client, messages: str) -> None:
    kind = {"Content-Type": "application/json"}
    for path in ("/v1/edits/explain", "/v1/chat/completions"):
        for rest in ("",) if "explain" in path else (', "stream": false', ', "stream": true'):
            response = client.post(path, content=f'{{"messages": {messages}{rest}}}', headers=kind)
            assert response.status_code == 400, response.text
            assert response.json()["error"]["type"] == "invalid_request_error"


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    """Read one response that announces its length, or has chunks."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65_536)
        assert part, f"the connection was closed after {data!r}"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        part = connection.recv(65_536)
        assert part, "the connection was closed in the middle"
        body += part
    return int(head.split()[1]), body


def post(path: str, body: bytes, *headers: str, method: str = "POST", kind: str = "application/json") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *headers]
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_after_an_error_the_connection_goes_on(
    tiny_llama: Any, tiny_chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        _, key = memory.keys.create("x", roles=["admin"])
        settings = ServerSettings(max_body=20_000, requests_per_minute=0)
        with serve(engine, lookups, settings) as server:
            own = f"Authorization: Bearer {key}"
            host, port = server.url.removeprefix("http://").split(":")
            monkeypatch.setattr(server.app.state.memedit.tradeoffs, "of", lambda _: 1 / 0)
            ask = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
            cases = [
                (post("/v1/edits", b"{", own), 400),
                (post("/v1/edits", b"x" * 50_000, own), 413),
                (post("/v1/edits", json.dumps(SKY).encode()), 401),
                (post("/v1/edits", b"x" * 15_000), 401),
                (post("/v1/edits/x", b"", own, method="GET"), 404),
                (post("/v1/edits/x", b"{}", own, method="PUT"), 405),
                (post("/v1/none", b"x" * 9_000, own), 404),
                (post("/v1/scope/tradeoff", b"", own, method="GET"), 500),
                (post("/v1/completions", ask, own, kind="text/plain"), 400),
                (post("/v1/completions", b'{"prompt": "x", "n": 40}', own), 400),
            ]
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                for sent, status in cases:
                    connection.sendall(sent)
                    found, body = answer_on(connection)
                    assert found == status, body
                    error = json.loads(body)["error"]
                    assert set(error) >= {"message", "type", "param", "code"}
                    connection.sendall(post("/v1/completions", ask, own))
                    assert answer_on(connection)[0] == 200


def test_a_server_out_of_time_says_so_to_everyone(
    tiny_llama: Any, tiny_chat_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 1_900, "ignore_eos": True}
    heard: dict[str, Any] = {}
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory, max_rows=2)
        with serve(engine, lookups, ServerSettings(auth=False, drain=0.5)) as server:
            model = engine._model.base
            model.get_input_embeddings().register_forward_hook(lambda *_: time.sleep(0.02))

            def stream() -> None:
                with server.client() as client:
                    sent = {**body, "stream": True}
                    with client.stream("POST", "/v1/completions", json=sent) as response:
                        lines = [line for line in response.iter_lines() if line]
                heard["stream"] = json.loads(lines[-1].removeprefix("data: "))

            def whole(name: str) -> None:
                with server.client() as client:
                    heard[name] = client.post("/v1/completions", json=body)

            threads = [threading.Thread(target=stream)]
            threads += [threading.Thread(target=whole, args=(name,)) for name in ("whole", "waiting")]
            for thread in threads:
                thread.start()
                time.sleep(0.3)
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 8
            for thread in threads:
                thread.join(10)
    assert heard["stream"]["error"]["code"] == "stopping"
    for name in ("whole", "waiting"):
        assert (heard[name].status_code, heard[name].json()["error"]["code"]) == (503, "stopping")
        assert heard[name].headers["retry-after"] == "1"
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]
