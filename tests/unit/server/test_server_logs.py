"""What the server writes down: one entry a line, whatever clients send."""

import io
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from memedit.errors import InputError
from memedit.server import logs
from support.running_server import RunningServer

ENTRY = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|ERROR|WARNING) (memedit\.server|uvicorn)(\.\w+)?: ")
FORGED = "2026-01-01 00:00:00,000 ERROR memedit.server: all is lost"
TARGETS = {
    "line ends": b"/v1/edits/%0D%0A" + FORGED.replace(" ", "%20").encode(),
    "escapes": b"/v1/%1b%5b2J%1b%5b31mred",
    "NUL": b"/v1/a%00b",
    "long": b"/v1/" + b"x" * 5_000,
    "override": b"/v1/%E2%80%AEgnp",
    "raw bytes": b"/v1/caf\xe9",
    "no UTF-8": b"/v1/%ff%fe",
}


@contextmanager
def log(form: str) -> Iterator[io.StringIO]:
    """What is written to the server's log, in a form."""
    text = io.StringIO()
    names = ("memedit.server", "uvicorn.error")
    kept = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", text)
        logs.log_to_stderr("info", form)
    try:
        yield text
    finally:
        for name, (handlers, propagate) in kept.items():
            logger = logging.getLogger(name)
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(logging.NOTSET)


def send(server: RunningServer, target: bytes, *headers: bytes) -> None:
    """Send a request exactly as it is and wait for the answer's end."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: 127.0.0.1", b"Connection: close", *headers])
        connection.sendall(head + b"\r\n\r\n")
        while connection.recv(65_536):
            pass


@pytest.mark.parametrize("name", list(TARGETS))
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_path_can_forge_an_entry_or_drive_a_terminal(shared_server: RunningServer, name: str, form: str) -> None:
    with log(form) as written:
        send(shared_server, TARGETS[name], b"X-Request-Id: a 200 0.1s id=b")
        send(shared_server, b"/health")
    lines = written.getvalue().split("\n")[:-1]
    assert len(lines) in (1, 2), lines  # what is no HTTP is refused before it is a request
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 800
        assert "200 0.1s" not in line
        if form == "text":
            assert ENTRY.match(line)
            assert "uvicorn" in line or len(line.split(": ", 1)[1].split(" ")) == 5
    assert "/health" in lines[-1]


def test_a_json_log_has_the_request_in_fields(shared_server: RunningServer) -> None:
    with log("json") as written, shared_server.client() as client:
        client.get("/v1/edits/nothing", headers={"X-Request-Id": "r-7"})
        until = time.monotonic() + 10  # the entry is written when the answer has gone out
        while not written.getvalue().endswith("\n") and time.monotonic() < until:
            time.sleep(0.01)
    entry = json.loads(written.getvalue())
    expected = {"level": "info", "method": "GET", "path": "/v1/edits/nothing", "status": 404, "request_id": "r-7"}
    assert {name: entry[name] for name in expected} == expected
    assert entry["seconds"] >= 0
    assert entry["key"] == "anonymous"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_an_error_says_is_not_taken_for_an_entry(form: str) -> None:
    with log(form) as written:
        try:
            raise ValueError(f"bad\n{FORGED}\r\n\x1b[2J")
        except ValueError:
            logging.getLogger("memedit.server").exception("failed on %s", f"a\n{FORGED}")
    lines = written.getvalue().split("\n")[:-1]
    if form == "json":
        entry: dict[str, Any] = json.loads(written.getvalue())
        assert "all is lost" in entry["exception"]
        assert len(lines) == 1
    else:
        assert [bool(ENTRY.match(line)) for line in lines] == [True] + [False] * (len(lines) - 1)
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith("2026") for line in lines[1:])


def test_levels_and_formats_that_do_not_exist_are_refused() -> None:
    for level, form in (("loud", "text"), ("info", "xml")):
        with pytest.raises(InputError, match=r"loud|xml"):
            logs.log_to_stderr(level, form)
