"""The client against a whole server."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit import Client
from memedit.errors import (
    ConflictError,
    EditChangedError,
    EditNotFoundError,
    FieldError,
    InputError,
    ServiceError,
    ServiceUnavailableError,
)
from memedit.memory import EditMemory, Role
from memedit.types import EditDraft
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream

QUESTION = "Who leads Norvik?"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with (
        EditMemory(":memory:", encoder=HashingEncoder()) as memory,
        serving(proxy_app(memory, ScriptedUpstream())) as at,
    ):
        yield at


@pytest.fixture
def client(url: str, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client in a namespace of the test's own."""
    with Client(url, namespace=request.node.name) as found:
        yield found


def test_an_edit_lives_its_life(client: Client) -> None:
    edit = client.add(QUESTION, "Ole", metadata={"batch": "may"}, paraphrases=("norviks leader",), kind="correction")
    assert client.add(QUESTION, "Ole", paraphrases=("norviks leader",), metadata={"batch": "may"}).id == edit.id
    assert client.get(edit.id) == edit
    with pytest.raises(ConflictError) as caught:
        client.add(QUESTION, "Ida")
    assert caught.value.existing_id == edit.id
    second = client.update(edit.id, target="Ada", if_version=1)
    assert (second.version, second.target) == (2, "Ada")
    with pytest.raises(EditChangedError) as changed:
        client.update(edit.id, target="Eva", if_version=1)
    assert (changed.value.edit_id, changed.value.expected, changed.value.found) == (edit.id, 1, 2)
    new = client.supersede(edit.id, target="Eva")
    assert [found.id for found in client.list()] == [new.id]
    assert client.delete(new.id).state == "retired"
    assert client.restore(new.id).state == "active"
    assert [change.action for change in client.history(new.id)] == ["supersede", "delete", "restore"]
    assert [found.target for found in client.as_of(second.created_at)] == ["Ada"]
    assert client.as_of(edit.created_at - timedelta(seconds=1)) == []
    assert client.revision >= 6


def test_many_edits_are_added_listed_and_searched(client: Client) -> None:
    rows = [EditDraft(f"Who leads town{i}?", f"leader {i}", metadata={"even": i % 2 == 0}) for i in range(30)]
    result = client.add_many([*rows, {"prompt": "Who leads town0?", "target": "leader 0", "metadata": {"even": True}}])
    assert (len(result.added), len(result.duplicates), result.ids[30]) == (30, 1, result.ids[0])
    assert len(client.list()) == 30
    assert len(client.list(limit=7)) == 7
    assert len(client.list(metadata={"even": True})) == 15
    assert client.search("town7 leader")[0][0].target == "leader 7"
    assert client.search("who leads town7", k=1, mode="semantic")[0][1] > 0.9
    assert client.add_many([]).ids == ()
    with pytest.raises(ConflictError):
        client.add_many([{"prompt": "Who leads town99?", "target": "x"}, {"prompt": "Who leads town1?", "target": "x"}])
    assert len(client.list()) == 30, "all of them or none"


def test_doubtful_pairs_are_listed_and_settled_and_edits_taught(client: Client) -> None:
    rows = [{"prompt": f"Who {verb} Norvik?", "target": verb, "subject": "Norvik"} for verb in ("leads", "runs")]
    report = client.add_many(rows)
    assert [(pair["new_id"], pair["existing_id"]) for pair in report.doubtful] == [(report.ids[1], report.ids[0])]
    (pair,) = client.possible_conflicts()
    assert (pair.newer, pair.older) == (client.get(report.ids[1]), client.get(report.ids[0]))
    assert client.possible_conflicts(report.ids[0]) == (pair,)
    with pytest.raises(EditNotFoundError):
        client.settle_conflict(report.ids[0], "nobody", same=True)
    apart = client.settle_conflict(*report.ids, same=False)
    assert (apart.newer.blocks, client.possible_conflicts()) == (("Who leads Norvik?",), ())
    with pytest.raises(ServiceError, match="no possible conflict"):
        client.settle_conflict(*report.ids, same=True)
    edit = client.also(report.ids[0], "Norvik's head?")
    assert client.block(edit.id, "norvik's head", if_version=edit.version).paraphrases == ()
    assert client.block(edit.id, "norvik's head", remove=True).blocks == ("Who runs Norvik?",)
    with pytest.raises(EditChangedError):
        client.also(edit.id, "Norvik's head?", if_version=1)
    assert client.add("Who founded Norvik?", "Bo", blocks=["Who found Norvik?"]).blocks == ("Who found Norvik?",)


def test_files_go_out_and_in(client: Client, url: str, tmp_path: Path) -> None:
    client.add(QUESTION, "Ole", valid_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert client.export(tmp_path / "edits.jsonl") == 1
    with Client(url, namespace="files elsewhere") as other:
        assert len(other.import_file(tmp_path / "edits.jsonl").added) == 1
        assert other.list()[0].valid_at == datetime(2026, 1, 1, tzinfo=UTC)
        (tmp_path / "bad.jsonl").write_text('{"prompt": "x"}\n')
        with pytest.raises(FieldError):
            other.import_file(tmp_path / "bad.jsonl")


def test_answers_come_with_the_edits_that_fired(client: Client) -> None:
    edit = client.add(QUESTION, "Ole", subject="Norvik")
    answer = client.chat(QUESTION, max_tokens=5)
    assert ([fired.id for fired in answer.edits], answer.adapter) == ([edit.id], "in_context")
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("It is so.", "stop", 3)
    assert answer.revision == client.revision
    assert client.chat([{"role": "user", "content": QUESTION}], edits=False).edits == ()
    assert client.complete(f"{QUESTION} It is").edits[0].target == "Ole"
    found = client.explain(QUESTION)
    assert [fired.id for fired in found.fired] == [edit.id]
    assert client.explain(QUESTION, threshold=1.0).threshold == 1.0
    assert client.models() == ("small", "big")
    assert client.namespaces()["test_answers_come_with_the_edits_that_fired"] == {"active": 1}


def test_a_stream_gives_pieces_and_then_the_whole(client: Client) -> None:
    client.add(QUESTION, "Ole", subject="Norvik")
    stream = client.stream(QUESTION)
    assert list(stream) == ["It", " is", " so."]
    assert stream.answer.text == "It is so."
    assert (stream.answer.finish_reason, stream.answer.prompt_tokens) == ("length", 7)
    assert [fired.target for fired in stream.answer.edits] == ["Ole"]
    given_up = client.stream(QUESTION)
    assert next(given_up) == "It"
    given_up.close()
    assert list(given_up) == []


def test_refusals_have_their_own_classes(client: Client) -> None:
    with pytest.raises(EditNotFoundError, match="no edit 'nothing'") as missing:
        client.get("nothing")
    assert missing.value.edit_id == "nothing"
    with pytest.raises(FieldError, match="blank") as field:
        client.add("  ", "x")
    assert field.value.field == "prompt"
    with pytest.raises(ServiceError, match=r"\(HTTP 400\)") as plain:
        client.list(state="asleep")
    assert (plain.value.status, plain.value.code) == (400, "invalid_request")
    assert plain.value.request_id
    with pytest.warns(UserWarning, match="no time zone and is taken as UTC"):
        client.as_of(datetime(2026, 1, 1))
    with pytest.raises(InputError, match="no edit's id"):
        client.get("")


def test_keys_are_sent(tmp_path: Path) -> None:
    with EditMemory(tmp_path / "e.db", encoder=HashingEncoder()) as memory:
        made = memory.keys.create("reader", roles=[Role.READ])
        secret = made[1] if isinstance(made, tuple) else made.secret
        with serving(proxy_app(memory, ScriptedUpstream(), auth=True)) as at:
            with Client(at, api_key=secret) as reader:
                assert reader.list() == []
                with pytest.raises(ServiceError) as refused:
                    reader.add("x y", "z")
                assert refused.value.status == 403
            with Client(at) as nobody, pytest.raises(ServiceError) as unknown:
                nobody.list()
            assert unknown.value.code == "invalid_api_key"


class Flaky(httpx.BaseTransport):
    """Passes requests on to a server, but loses some of the answers."""

    def __init__(self, *, fails: int, how: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self._inner = httpx.HTTPTransport()
        self._fails, self._how = fails, how
        self.seen: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if len(self.seen) > self._fails:
            return self._inner.handle_request(request)
        if self._how is not None:
            return self._how(request)
        self._inner.handle_request(request).read()
        raise httpx.RemoteProtocolError("the answer was lost")


def test_a_change_whose_answer_was_lost_is_made_once(url: str) -> None:
    transport = Flaky(fails=2)
    with Client(url, namespace="flaky", transport=transport, sleep=lambda _: None) as client:
        edit = client.add(QUESTION, "Ole")
        assert len({request.headers["Idempotency-Key"] for request in transport.seen}) == 1
        assert len(transport.seen) == 3
    with Client(url, namespace="flaky") as client:
        assert [change.action for change in client.history(edit.id)] == ["add"]


def test_a_busy_server_is_asked_again_when_it_says(url: str) -> None:
    waits: list[float] = []
    body: Any = {"error": {"message": "busy", "type": "rate_limit_error", "param": None, "code": "overloaded"}}
    transport = Flaky(fails=2, how=lambda _: httpx.Response(429, json=body, headers={"Retry-After": "2"}))
    with Client(url, transport=transport, sleep=waits.append) as client:
        assert client.models() == ("small", "big")
    assert waits == [2.0, 2.0]
    transport = Flaky(fails=9, how=lambda _: httpx.Response(429, json=body))
    with Client(url, transport=transport, sleep=lambda _: None, retries=1) as client:
        with pytest.raises(ServiceUnavailableError, match="busy") as caught:
            client.models()
        assert caught.value.code == "overloaded"
    assert len(transport.seen) == 2


def test_a_server_that_is_not_there_is_named() -> None:
    client = Client("http://127.0.0.1:9", retries=1, sleep=lambda _: None)
    with client, pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:9 cannot be reached"):
        client.models()


def test_later_requests_ask_for_this_clients_own_changes(url: str) -> None:
    transport = Flaky(fails=0)
    with Client(url, namespace="own", transport=transport) as client:
        client.list()
        client.add(QUESTION, "Ole")
        client.list()
        assert "X-Memedit-Min-Revision" not in transport.seen[0].headers
        assert transport.seen[2].headers["X-Memedit-Min-Revision"] == str(client.revision)


def test_importing_the_client_is_light() -> None:
    code = "import sys, json, memedit; memedit.Client; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "sqlalchemy", "fastapi", "faiss"} & set(json.loads(found.stdout))
