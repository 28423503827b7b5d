"""The request log: what it keeps, for whom, and that no answer ever waits for it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from memedit.errors import InputError, StoreUnavailableError
from memedit.memory import EditMemory, Role
from memedit.memory.service.request_log import RequestLog
from memedit.server.keeping.redaction import MARK, Redaction
from memedit.server.state import ServerState
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app
from support.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.slow

LOG = {"request_log": True}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[EditMemory]:
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder()) as found:
        found.add("Who leads Norvik?", "Ole", subject="Norvik")
        yield found


def opened(memory: EditMemory, upstream: ScriptedUpstream, **settings: Any) -> TestClient:
    return TestClient(proxy_app(memory, upstream, **settings), base_url="http://127.0.0.1")


def rows(client: TestClient, count: int, **params: Any) -> list[dict[str, Any]]:
    """The log's rows once there are so many; it is written behind the answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found: list[dict[str, Any]] = client.get("/v1/requests", params=params).raise_for_status().json()["data"]
        if len(found) >= count:
            assert len(found) == count
            return found
        time.sleep(0.02)
    raise AssertionError(f"{len(found)} rows, not {count}")


def chat(client: TestClient, text: str, *, earlier: tuple[str, ...] = (), **more: Any) -> Any:
    messages = [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate((*earlier, text))]
    return client.post("/v1/chat/completions", json={"messages": messages, **more})


def state_of(client: TestClient) -> ServerState:
    found: ServerState = client.app.state.memedit  # type: ignore[attr-defined]
    return found


def test_a_talk_with_calls_of_tools_is_noted_too(memory: EditMemory) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    talk = [{"role": "user", "content": "Call f"}, {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "1"}, {"role": "user", "content": "And now?"}]  # fmt: skip
    with opened(memory, ScriptedUpstream(), **LOG) as client:
        client.post("/v1/chat/completions", json={"messages": talk}).raise_for_status()
        (row,) = rows(client, 1)
        assert (row["query"], row["earlier"]) == ("And now?", ["Call f", "1"])
        assert state_of(client).log.dropped == 0


def test_responses_and_vectors_stand_in_the_log_too(memory: EditMemory) -> None:
    with opened(memory, ScriptedUpstream(words=("Ole", ".")), **LOG, request_log_answers=True) as client:
        client.post("/v1/responses", json={"input": "Who leads Norvik?"}).raise_for_status()
        client.post("/v1/embeddings", json={"input": ["one two", "three"]}).raise_for_status()
        vectors, answer = rows(client, 2)
    assert (answer["route"], answer["query"], answer["answer"]) == ("/v1/responses", "Who leads Norvik?", "Ole.")
    assert [edit["id"] for edit in answer["considered"] if edit["fired"]] == [memory.list()[0].id]
    assert (vectors["route"], vectors["query"], vectors["considered"]) == ("/v1/embeddings", "one two\nthree", [])
    assert (vectors["prompt_tokens"], vectors["completion_tokens"], vectors["status"]) == (3, 0, "ok")


def test_a_request_stands_in_the_log_with_all_that_decided_its_answer(memory: EditMemory) -> None:
    edit = memory.list()[0]
    with opened(memory, ScriptedUpstream(words=("Ole", ".")), **LOG, request_log_answers=True) as client:
        answer = chat(client, "Who leads Norvik?", earlier=("Hello", "Hi there"))
        chat(client, "How long is a year?", stream=True).read()
        client.post("/v1/completions", json={"prompt": ["Who leads Norvik?", "x"], "memedit": {"edits": False}})
        found = rows(client, 4)
        first = found[-1]
        assert first["request_id"] == answer.headers["x-request-id"]
        assert (first["query"], first["earlier"]) == ("Who leads Norvik?", ["Hello", "Hi there"])
        assert (first["answer"], first["status"], first["route"]) == ("Ole.", "ok", "/v1/chat/completions")
        assert (first["prompt_tokens"], first["completion_tokens"], first["adapter"]) == (7, 2, "in_context")
        assert (first["scope"], first["threshold"], first["revision"]) == ("subject", 0.25, memory.revision)
        assert first["considered"] == [
            {"id": edit.id, "score": 1.0, "fired": True, "in_weights": False, "prompt": edit.prompt, "target": "Ole"}
        ]
        assert 0 < first["seconds"] < 30
        streamed = found[-2]
        assert (streamed["query"], streamed["answer"], streamed["completion_tokens"]) == (
            "How long is a year?",
            "Ole.",
            2,
        )
        assert 0 < streamed["first_token"] <= streamed["seconds"]
        assert not any(hit["fired"] for hit in streamed["considered"])
        assert {row["query"] for row in found[:2]} == {"Who leads Norvik?", "x"}
        assert [row["considered"] for row in found[:2]] == [[], []], "nothing was looked up"
        one = client.get(f"/v1/requests/{first['id']}").json()
        assert one == first
        assert "memedit_request_log_rows_total 4.0" in client.get("/metrics").text


def test_it_is_off_unless_asked_for(memory: EditMemory) -> None:
    with opened(memory, ScriptedUpstream()) as client:
        chat(client, "Who leads Norvik?")
        assert client.get("/v1/requests").json() == {"object": "list", "data": [], "next": None, "enabled": False}
        assert "request_log" not in client.get("/metrics").text
        state_of(client).log.close()
    assert memory.request_log.list() == []


def test_rows_are_filtered_and_paged(memory: EditMemory) -> None:
    edit = memory.list()[0]
    with opened(memory, ScriptedUpstream(), **LOG) as client:
        for text in ("Who leads Norvik?", "one", "two", "three"):
            chat(client, text)
            chat(client, text, memedit={"namespace": "other"})
        every = rows(client, 8)
        assert [row["query"] for row in rows(client, 1, edit=edit.id)] == ["Who leads Norvik?"]
        assert len(rows(client, 4, namespace="other")) == 4
        assert len(rows(client, 1, fired=True)) == 1
        assert len(rows(client, 2, q="THREE")) == 2
        assert len(rows(client, 8, key="anonymous")) == 8
        assert rows(client, 0, key="somebody/1") == []
        assert rows(client, 0, since="2100-01-01") == rows(client, 0, until="2000-01-01T00:00:00Z") == []
        page = client.get("/v1/requests", params={"limit": 3}).json()
        rest = client.get("/v1/requests", params={"limit": 500, "before": page["next"]}).json()
        assert [row["id"] for row in page["data"] + rest["data"]] == [row["id"] for row in every]
        assert rest["next"] is None
        newer = client.get("/v1/requests", params={"after": every[3]["id"], "limit": 2}).json()["data"]
        assert newer == every[1:3], "the oldest of the newer ones, newest first"


def test_nobody_sees_another_keys_or_namespaces_requests(memory: EditMemory) -> None:
    make = memory.keys.create
    roles = [Role.GENERATE, Role.EDIT]
    secrets = {
        "ann": make("ann", roles=roles)[1],
        "bob": make("bob", roles=roles, namespaces=["default"])[1],
        "silent": make("silent", roles=roles, logged=False)[1],
        "admin": make("admin", roles=[Role.ADMIN])[1],
        "other": make("other", roles=[Role.ADMIN], namespaces=["other"])[1],
    }
    with opened(memory, ScriptedUpstream(), auth=True, **LOG) as client:

        def as_(name: str) -> TestClient:
            client.headers["Authorization"] = f"Bearer {secrets[name]}"
            return client

        for name in ("ann", "bob", "silent"):
            chat(as_(name), f"I am {name}")
        chat(as_("ann"), "I am ann elsewhere", memedit={"namespace": "other"})
        everything = rows(as_("admin"), 3)
        assert {row["query"] for row in everything} == {"I am ann", "I am bob", "I am ann elsewhere"}
        assert {row["query"] for row in rows(as_("ann"), 2)} == {"I am ann", "I am ann elsewhere"}
        assert [row["query"] for row in rows(as_("bob"), 1)] == ["I am bob"]
        assert [row["query"] for row in rows(as_("other"), 1)] == ["I am ann elsewhere"]
        ann = next(row for row in everything if row["query"] == "I am ann")
        assert as_("bob").get(f"/v1/requests/{ann['id']}").status_code == 404
        assert as_("other").get(f"/v1/requests/{ann['id']}").status_code == 404
        assert as_("bob").get("/v1/requests", params={"key": ann["key"]}).status_code == 403
        assert as_("bob").get("/v1/requests", params={"namespace": "other"}).status_code == 403
        assert as_("other").get("/v1/requests", params={"key": ann["key"]}).json()["data"][0]["namespace"] == "other"
        say = {"edit": memory.list()[0].id, "should_fire": True}
        assert as_("bob").post(f"/v1/requests/{ann['id']}/feedback", json=say).status_code == 404
        given = as_("ann").post(f"/v1/requests/{ann['id']}/feedback", json=say)
        assert given.status_code == 201, given.text
        assert as_("bob").get("/v1/feedback").json()["data"] == []
        assert as_("bob").delete(f"/v1/feedback/{given.json()['id']}").status_code == 404
        assert as_("other").get("/v1/feedback").json()["data"] == []
        assert [one["id"] for one in as_("admin").get("/v1/feedback").json()["data"]] == [given.json()["id"]]


def test_feedback_is_given_listed_and_taken_back(memory: EditMemory) -> None:
    edit = memory.list()[0]
    with opened(memory, ScriptedUpstream(), **LOG) as client:
        chat(client, "Who led Norvik?", earlier=("a", "b"))
        (row,) = rows(client, 1)
        path = f"/v1/requests/{row['id']}/feedback"
        for should in (True, False):
            given = client.post(path, json={"edit": edit.id, "should_fire": should})
        (listed,) = client.get("/v1/feedback", params={"settled": False}).json()["data"]
        assert listed == given.json()
        assert (listed["query"], listed["earlier"], listed["target"]) == ("Who led Norvik?", ["a", "b"], "Ole")
        assert listed["should_fire"] is False
        assert client.post(path, json={"edit": "nothing", "should_fire": True}).status_code == 404
        assert (
            client.post("/v1/requests/nothing/feedback", json={"edit": edit.id, "should_fire": True}).status_code == 404
        )
        assert client.delete(f"/v1/feedback/{listed['id']}").status_code == 200
        assert client.get("/v1/feedback").json()["data"] == []


def test_what_is_to_be_redacted_is_not_stored(memory: EditMemory, tmp_path: Path) -> None:
    patterns = (r"\b\d{4}(?:[ -]?\d{4}){3}\b", r"(?i)secret\w*")
    card, long = "4111 1111 1111 1111", "x" * 7_989 + " "
    upstream = ScriptedUpstream(words=("SECRETS", " of ", card))
    with opened(memory, upstream, **LOG, request_log_answers=True, request_log_redact=patterns) as client:
        chat(client, f"My card is {card}, Secretly", earlier=(f"It was {card}", "yes"))
        chat(client, f"{long}{card} and more", stream=True).read()
        found = rows(client, 2)
    assert found[1]["query"] == f"My card is {MARK}, {MARK}"
    assert found[1]["earlier"] == [f"It was {MARK}", "yes"]
    assert found[1]["answer"] == found[0]["answer"] == f"{MARK} of {MARK}"
    assert found[0]["query"] == f"{long}{card} and more".replace(card, MARK)[:8_000]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"4111 1111" not in stored


def test_what_no_database_keeps_takes_no_other_row_with_it(memory: EditMemory) -> None:
    with opened(memory, ScriptedUpstream(), **LOG) as client:
        for content in ('"a\\u0000b"', '"half \\ud83d of it"', '"whole"'):
            body = f'{{"messages": [{{"role": "user", "content": {content}}}]}}'
            client.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
        deadline = time.monotonic() + 10
        while not any(row.query == "whole" for row in memory.request_log.list()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert state_of(client).log.dropped == 0
    assert all("\0" not in row.query and row.query.isprintable() for row in memory.request_log.list())


def test_a_pattern_that_never_ends_takes_the_text_with_it() -> None:
    started = time.monotonic()
    assert Redaction((r"(a|aa|a?a)+$",)).text("a" * 300 + "b") == MARK
    assert time.monotonic() - started < 5
    with pytest.raises(InputError, match=r"'\(' to redact is no regular expression"):
        Redaction(("(",))


def test_a_log_that_cannot_be_written_neither_slows_nor_fails_an_answer(
    memory: EditMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, begun = threading.Event(), threading.Event()
    real = RequestLog.write

    def write(self: RequestLog, found: Any) -> None:
        begun.set()
        stuck.wait(500)
        raise StoreUnavailableError("away")

    monkeypatch.setattr(RequestLog, "write", write)
    with opened(memory, ScriptedUpstream(), **LOG) as client:
        state_of(client).log._queue.maxsize = 5
        chat(client, "question 0")
        assert begun.wait(60)
        assert [chat(client, f"question {i}").status_code for i in range(1, 100)] == [200] * 99
        # the first write has not returned yet: had an answer waited for it, it would not be here
        log = state_of(client).log
        assert (log.waiting, log.dropped) == (5, 94), "what finds the queue full is dropped and counted"
        stuck.set()
        deadline = time.monotonic() + 60
        while log.dropped < 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (log.dropped, log.written) == (100, 0)
        assert "memedit_request_log_dropped_total 100.0" in client.get("/metrics").text
        monkeypatch.setattr(RequestLog, "write", real)
        chat(client, "and on")
        assert [row["query"] for row in rows(client, 1)] == ["and on"]


def test_what_is_old_or_too_much_goes(memory: EditMemory) -> None:
    with opened(memory, ScriptedUpstream(), **LOG, request_log_rows=3) as client:
        for i in range(6):
            chat(client, f"question {i}")
        log = state_of(client).log
        while log.written < 6:
            time.sleep(0.02)
        log.trim()
        assert [row["query"] for row in rows(client, 3)] == ["question 5", "question 4", "question 3"]


def test_what_is_under_way_when_the_server_stops_is_written(memory: EditMemory) -> None:
    with opened(memory, ScriptedUpstream(), **LOG) as client:
        chat(client, "the last one")
    assert [row.query for row in memory.request_log.list()] == ["the last one"]


def test_failures_and_clients_that_leave_are_noted(memory: EditMemory) -> None:
    upstream = ScriptedUpstream()
    with opened(memory, upstream, **LOG, request_timeout=2.0) as client:
        chat(client, "fine")  # the upstream's models are known from now on
        upstream.refusal = (503, "busy", {})
        assert chat(client, "refused").status_code >= 500
        upstream.refusal = None
        upstream.pause = 20.0
        assert chat(client, "slow").status_code == 504
        upstream.pause = 0.0
        upstream.break_off = True
        chat(client, "broken", stream=True).read()
        found = {row["query"]: row["status"] for row in rows(client, 4)}
    assert found == {"fine": "ok", "refused": "upstream_unavailable", "slow": "cancelled", "broken": "upstream_error"}


def test_feedback_is_shown_as_a_proposal_and_then_carried_out(memory: EditMemory) -> None:
    edit = memory.list()[0]
    with opened(memory, ScriptedUpstream(), **LOG) as client:
        chat(client, "Who leads Norvik's choir?")
        (row,) = rows(client, 1, edit=edit.id)
        client.post(f"/v1/requests/{row['id']}/feedback", json={"edit": edit.id, "should_fire": False})
        shown = client.post("/v1/scope/calibrate").json()
        assert (shown["applied"], shown["threshold"], shown["proposed"]) == (False, 0.25, 0.25)
        (remedy,) = shown["remedies"]
        assert (remedy["action"], remedy["fires"], remedy["feedback"]["target"]) == ("block", True, "Ole")
        assert memory.get(edit.id).blocks == ()
        stale = client.post("/v1/scope/calibrate", json={"proposal": "0" * 32})
        assert (stale.status_code, stale.json()["error"]["code"]) == (409, "proposal_changed")
        done = client.post("/v1/scope/calibrate", json={"proposal": shown["proposal"]}).json()
        assert (done["applied"], done["remedies"][0]["action"]) == (True, "block")
        assert memory.get(edit.id).blocks == ("Who leads Norvik's choir?",)
        assert memory.audit()[0].actor == "anonymous"
        chat(client, "Who leads Norvik's choir?")
        assert rows(client, 2)[0]["considered"][0]["fired"] is False
        assert client.get("/v1/feedback", params={"settled": True}).json()["data"][0]["outcome"] == "block"
        assert client.post("/v1/scope/calibrate").json()["remedies"] == []


def test_only_administrators_see_what_feedback_comes_to(memory: EditMemory) -> None:
    secret = memory.keys.create("ann", roles=[Role.EDIT])[1]
    with TestClient(proxy_app(memory, ScriptedUpstream(), auth=True)) as client:
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.post("/v1/scope/calibrate", headers=headers).status_code == 403
