"""Slow clients and very many: they are ended in time, and the rest is served meanwhile."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from memedit.memory import EditMemory
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve

pytestmark = pytest.mark.slow

ASK = {"prompt": "x", "max_tokens": 1}


@contextlib.contextmanager
def server_with(model: Any, tokenizer: Any, **settings: Any) -> Iterator[RunningServer]:
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(model, tokenizer, memory)
        with serve(engine, lookups, ServerSettings(requests_per_minute=0, **settings)) as server:
            yield server


def connected(server: RunningServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            data += part
    return data


def served(server: RunningServer, seconds: float = 20.0) -> None:
    since = time.monotonic()
    _, key = server.lookups.memory.keys.create("x", roles=["admin"])
    with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
        assert client.get("/health").status_code == 200
        assert client.post("/v1/completions", json=ASK).status_code == 200
    assert time.monotonic() - since < seconds


_POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\nContent-Length: 90\r\n\r\n"
HALVES = {
    "nothing": b"",
    "a byte": b"P",
    "half a head": b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-",
    "no body": _POST,
    "half a body": _POST + b"{",
    "half an import": b"POST /v1/edits/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
}


@pytest.mark.parametrize("name", list(HALVES))
@pytest.mark.parametrize("dripping", [False, True])
def test_a_request_that_does_not_come_is_ended(
    tiny_llama: Any, tiny_chat_tokenizer: Any, name: str, dripping: bool
) -> None:
    with server_with(tiny_llama, tiny_chat_tokenizer, head_timeout=0.5, body_timeout=0.5) as server:
        _, key = server.lookups.memory.keys.create("x", roles=["admin"])
        with connected(server) as connection:
            since = time.monotonic()
            connection.sendall(HALVES[name].replace(b"KEY", key.encode()))
            drop = {"a byte": b"P", "half a head": b"y"}.get(name, b"")
            while dripping and drop and time.monotonic() - since < 15:
                try:
                    connection.sendall(drop)
                except OSError:
                    break
                time.sleep(0.3)
            said = rest_of(connection)
        assert time.monotonic() - since < 20
        if not dripping:
            assert said.startswith(b"HTTP/1.1 408 ")
            assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "timeout"
        served(server)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/completions", 400), ("/v1/edits", 400), ("/v1/edits/import", 499), ("/v1/edits/none/restore", 499)],
)
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_failure(
    tiny_llama: Any, tiny_chat_tokenizer: Any, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with server_with(tiny_llama, tiny_chat_tokenizer) as server:
        _, key = server.lookups.memory.keys.create("x", roles=["admin"])
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 90\r\n\r\n{{"
        with connected(server) as connection:
            connection.sendall(head.encode())
            time.sleep(0.5)
        with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
            deadline = time.monotonic() + 30
            while f'status="{status}"' not in (said := client.get("/metrics").text) and time.monotonic() < deadline:
                time.sleep(0.1)
        assert f'status="{status}"' in said
        assert 'status="500"' not in said
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_connection_that_is_kept_may_idle_and_be_used_again(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    limits = {"head_timeout": 0.5, "body_timeout": 0.5}
    with server_with(tiny_llama, tiny_chat_tokenizer, **limits) as server, connected(server) as connection:
        for _ in range(3):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            said = b""
            while not said.endswith(b'{"status":"ok"}'):
                said += connection.recv(65_536)
            assert said.startswith(b"HTTP/1.1 200")
            time.sleep(2.2)
        connection.sendall(b"GET /hea")
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_takes_long_is_not_cut_and_a_slow_upload_goes_through(
    tiny_llama: Any, tiny_chat_tokenizer: Any
) -> None:
    with server_with(tiny_llama, tiny_chat_tokenizer, head_timeout=0.5, body_timeout=2.5) as server:
        model = server.engine._model.base
        handle = model.get_input_embeddings().register_forward_hook(lambda *_: time.sleep(0.1))
        _, key = server.lookups.memory.keys.create("x", roles=["admin"])
        try:
            with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
                body = {"prompt": "x", "max_tokens": 30, "ignore_eos": True}
                found = client.post("/v1/completions", json=body).json()
                assert found["usage"]["completion_tokens"] == 30, "three seconds and more"

                def lines() -> Iterator[bytes]:
                    for number in range(8):
                        line = {"prompt": f"The size of thing {number} is", "target": "x", "source": "y" * 12_000}
                        yield json.dumps(line).encode() + b"\n"
                        time.sleep(0.4)

                assert client.post("/v1/edits/import", content=lines()).status_code == 200
        finally:
            handle.remove()


def test_half_open_connections_leave_the_rest_served(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    with server_with(tiny_llama, tiny_chat_tokenizer) as server, contextlib.ExitStack() as stack:
        for number in range(500):
            connection = stack.enter_context(connected(server))
            connection.sendall(list(HALVES.values())[number % len(HALVES)])
        served(server)


def test_idle_connections_make_room_and_busy_ones_do_not(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    with server_with(tiny_llama, tiny_chat_tokenizer, max_connections=4) as server, contextlib.ExitStack() as stack:
        _, key = server.lookups.memory.keys.create("x", roles=["admin"])
        idle = [stack.enter_context(connected(server)) for _ in range(30)]
        served(server)
        assert rest_of(idle[0]) == b"", "closed without a word"
        model = server.engine._model.base
        handle = model.get_input_embeddings().register_forward_hook(lambda *_: time.sleep(0.05))
        body = json.dumps({"prompt": "x", "max_tokens": 100, "ignore_eos": True, "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        head += f"Content-Length: {len(body)}\r\n"
        busy = []
        for _ in range(4):
            busy.append(stack.enter_context(connected(server)))
            busy[-1].sendall(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body)
            assert busy[-1].recv(1_000).startswith(b"HTTP/1.1 200")
        refused = rest_of(stack.enter_context(connected(server)))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
        handle.remove()
        for connection in busy:
            assert b"data: [DONE]" in rest_of(connection)


def test_a_client_that_does_not_read_is_let_go(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    with server_with(tiny_llama, tiny_chat_tokenizer, write_timeout=0.5) as server, connected(server) as connection:
        memory = server.lookups.memory
        drafts = [{"prompt": f"The size of {i} is", "target": "x", "source": "y" * 60_000} for i in range(300)]
        memory.add_many(drafts)
        _, key = memory.keys.create("x", roles=["admin"])
        head = f"GET /v1/edits/export HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
        connection.sendall(head.encode())
        time.sleep(3.0)
        assert len(rest_of(connection)) < 300 * 60_000, "what was on its way, and no more"
        served(server)
