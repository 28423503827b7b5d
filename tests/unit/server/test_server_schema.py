"""The OpenAPI document, and random requests made from it: nothing may fail, nothing may be undocumented."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from memedit.config import ModelConfig
from memedit.memory import EditMemory
from memedit.server import create_app
from memedit.server.consolidations import ConsolidationSetup, Consolidator
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("MEMEDIT_SCHEMA_EXAMPLES", "6"))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: Any, value: Any) -> bytes:
    """Bodies to import are text of any kind."""
    return str(value).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def fuzzed(
    tiny_llama: Any, tiny_chat_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    path = tmp_path_factory.mktemp("fuzzed") / "edits.db"
    consolidator = Consolidator(ConsolidationSetup(str(path), "minilm", ModelConfig()))
    with EditMemory(path, encoder=HashingEncoder(8)) as memory:
        memory.add("The colour of the sky is", "green", subject="sky")
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory, default_max_tokens=4)
        limits = ServerSettings(auth=False, requests_per_minute=0, revision_wait=0.01)
        with serve(engine, lookups, limits, consolidator=consolidator) as server:
            yield server


@pytest.fixture(scope="module")
def document(tiny_llama: Any, tiny_chat_tokenizer: Any) -> dict[str, Any]:
    with EditMemory(encoder=HashingEncoder(8)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        found: dict[str, Any] = create_app(engine, lookups).openapi()
        return found


def shortened(case: Any, edit_id: str) -> None:
    """Keep a case cheap, and let some of them be about an edit that exists."""
    if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
        case.body["max_tokens"] = min(case.body["max_tokens"], 4)  # long answers show nothing more
    if "edit_id" in (case.path_parameters or {}) and len(str(case.path_parameters["edit_id"])) % 2:
        case.path_parameters["edit_id"] = edit_id


def test_random_requests_get_documented_answers(fuzzed: RunningServer) -> None:
    api = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json", timeout=120)
    edit_id = fuzzed.lookups.memory.list()[0].id
    tried = 0
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.definition.raw["operationId"] == "start_consolidation":
            continue  # every good request would start a process; it has tests of its own

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            nonlocal tried
            tried += 1
            shortened(case, edit_id)
            case.call_and_validate(base_url=fuzzed.url, checks=CHECKS, timeout=60)

        check()
    assert tried > 20 * EXAMPLES / 2


def test_the_server_is_as_it_was_after_all_that(fuzzed: RunningServer) -> None:
    with fuzzed.client() as client:
        assert client.get("/ready").json()["ready"]
        assert fuzzed.lookups.memory.verify().ok


def test_every_route_is_typed_and_documented(document: dict[str, Any]) -> None:
    operations = [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 20
    assert len({operation["operationId"] for _, operation in operations}) == len(operations)
    for name, operation in operations:
        assert operation["summary"], name
        assert operation.get("description"), name
        assert "422" not in operation["responses"], name
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert good, name
        for status in good:
            content = operation["responses"][status]["content"]
            assert all(part.get("schema") not in (None, {}) for part in content.values()), (name, status)


def test_every_error_has_the_one_envelope(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")) and path != "/ready":
                    reference = response["content"]["application/json"]["schema"]["$ref"]
                    assert reference.endswith("/ErrorBody"), (path, status)


def test_guarded_routes_say_so(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert ("security" in operation) == (path not in ("/health", "/ready")), path


def test_one_more_independent_client_reads_a_stream(fuzzed: RunningServer) -> None:
    """By hand, from the bytes: what any client of server-sent events has to rely on."""
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 3}
    raw = httpx.post(f"{fuzzed.url}/v1/chat/completions", json=body).content
    blocks = raw.split(b"\n\n")
    assert blocks[-2:] == [b"data: [DONE]", b""]
    assert all(block.startswith(b"data: ") and b"\n" not in block for block in blocks[:-1])
