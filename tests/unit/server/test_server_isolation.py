"""Nothing that goes wrong with one request, or in one namespace, reaches another's."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from memedit.memory import EditMemory
from memedit.memory.schema import edits
from memedit.runtime.artefacts import Artefacts
from memedit.runtime.continuous import batch as batches
from memedit.runtime.continuous.sampling import TokenChooser
from memedit.server.engines import planning
from memedit.server.engines.lookup_queue import LookupQueue
from memedit.server.engines.tickets import Answer
from memedit.server.lookups import Lookups
from memedit.server.rendering import TextRenderer
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve

pytestmark = pytest.mark.slow

EDGES = ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z")
SKY = {"prompt": "The colour of the sky is", "target": "green", "subject": "sky"}
POISON = "The colour of poison is"
OTHERS = 8


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("field", ["valid_at", "invalid_at"])
def test_a_date_that_some_time_zone_cannot_write_is_refused(client: httpx.Client, edge: str, field: str) -> None:
    edit = client.post("/v1/edits", json={"prompt": "The tower stands in", "target": "Rome"}).json()
    body = {**SKY, field: edge}
    place = f"/v1/edits/{edit['id']}"
    refusals = [
        client.post("/v1/edits", json=body),
        client.post("/v1/edits/batch", json={"edits": [body]}),
        client.post("/v1/edits/import", content=json.dumps(body)),
        client.patch(place, json={field: edge}),
        client.post(f"{place}/supersede", json={field: edge}),
    ]
    for response in refusals:
        assert (response.status_code, response.json()["error"]["param"]) == (400, field), response.text
        assert "calendar" in response.json()["error"]["message"]
    assert [e["id"] for e in client.get("/v1/edits").json()["data"]] == [edit["id"]]


def test_dates_that_every_time_zone_can_write_are_kept(client: httpx.Client) -> None:
    for number, when in enumerate(("9999-12-30T23:59:59+00:00", "0001-01-02T00:00:00+00:00")):
        body = {"prompt": f"The size of thing {number} is", "target": "x", "valid_at": when}
        edit = client.post("/v1/edits", json=body)
        assert edit.status_code == 201
        assert datetime.fromisoformat(edit.json()["valid_at"]) == datetime.fromisoformat(when)


def test_whatever_dates_are_stored_can_be_read(shared_server: RunningServer, client: httpx.Client) -> None:
    """Rows of earlier versions, or written by hand: everything that reads them goes on working."""
    edit = client.post("/v1/edits", json=SKY).json()
    memory = shared_server.lookups.memory
    for first, last in ((-(10**18), 10**18), (-(2**62), 2**62)):
        with memory._database.write() as connection:
            values = {"valid_at": first, "invalid_at": last}
            connection.execute(update(edits).where(edits.c.id == edit["id"]).values(**values))
        for path in ("/v1/edits", "/v1/edits/export", "/v1/audit", f"/v1/edits/{edit['id']}/history",
                     f"/v1/edits/{edit['id']}", "/v1/edits/search?q=sky", "/v1/edits/search?q=sky&mode=semantic",
                     f"/v1/edits/as-of?at={(datetime.now(UTC) + timedelta(hours=1)).isoformat()[:19]}Z"):  # fmt: skip
            response = client.get(path)
            assert response.status_code == 200, (path, response.text)
            assert edit["id"] in response.text, path
        for body in ({"prompt": SKY["prompt"]}, {"prompt": SKY["prompt"], "max_tokens": 2}):
            path = "/v1/completions" if "max_tokens" in body else "/v1/edits/explain"
            assert edit["id"] in client.post(path, json=body).text
    assert client.patch(f"/v1/edits/{edit['id']}", json={"target": "blue"}).status_code == 200
    assert client.post(f"/v1/edits/{edit['id']}/supersede", json={"target": "red"}).status_code == 201


@pytest.fixture(scope="module")
def loaded(tiny_llama: Any, tiny_chat_tokenizer: Any) -> Iterator[RunningServer]:
    """A server whose memory has an edit for the poisoned prompt and for those of the others."""
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add(POISON, "black", subject="poison")
        memory.add("The capital of Freedonia is", "Sylvania City", subject="Freedonia")
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory, max_rows=16)
        with serve(engine, lookups, ServerSettings(auth=False, requests_per_minute=0)) as server:
            yield server


def other(number: int) -> dict[str, Any]:
    """The request of one of those who must not notice; seeded, and half of them edited."""
    prompt = "The capital of Freedonia is" if number % 2 else f"Once upon a time {number}"
    return {"prompt": prompt, "max_tokens": 90 + number, "seed": 7, "temperature": number % 3 / 2, "ignore_eos": True}


def streamed(server: RunningServer, body: dict[str, Any], begun: Callable[[], None] = lambda: None) -> tuple[str, Any]:
    """The text of a stream, and its error if it has one."""
    text, error = "", None
    with server.client() as client, client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        if response.status_code != 200:
            response.read()
            return text, response.json()["error"]
        last = ""
        for line in response.iter_lines():
            if line.startswith("data: {"):
                begun()
                chunk = json.loads(line[6:])
                error = chunk.get("error", error)
                text += "".join(choice["text"] for choice in chunk.get("choices", ()))
            last = line or last
    assert error or last == "data: [DONE]", "a cut stream"
    return text, error


def poisoned(text: str) -> bool:
    return "poison" in text


def fail() -> Any:
    raise OverflowError("date value out of range")


def wrapped(owner: Any, name: str, bad: Callable[..., bool]) -> Callable[[pytest.MonkeyPatch], None]:
    """Have a function fail where its arguments are about the poisoned request."""

    def put(patch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)
        patch.setattr(owner, name, lambda *args, **options: fail() if bad(*args, **options) else real(*args, **options))

    return put


def of_rows(rows: Any) -> bool:
    return any(poisoned(row.text) for row in rows)


FAULTS: dict[str, Callable[[RunningServer, pytest.MonkeyPatch], None]] = {
    "look-up": lambda server, patch: wrapped(
        server.lookups, "decide", lambda _, texts: any(map(poisoned, texts)))(patch),
    "look-up of the namespace": lambda server, patch: wrapped(
        server.lookups, "_router", lambda namespace, *_: namespace == "poisoned")(patch),
    "target": lambda server, patch: wrapped(
        server.engine._model.generator, "target_prior", lambda row, *_: poisoned(row.text))(patch),
    "artefacts": lambda server, patch: wrapped(
        Artefacts, "of", lambda _, adapter, edits: poisoned(edits[0].prompt))(patch),
    "rewriting": lambda server, patch: wrapped(
        server.engine._model.adapter, "rewrite", lambda row, *_: poisoned(row.text))(patch),
    "job": lambda server, patch: wrapped(planning, "Job", lambda **job: poisoned(job["row"].text))(patch),
    "reading the prompt": lambda server, patch: wrapped(
        server.engine._model.adapter, "active", lambda batch, _: of_rows(batch.rows))(patch),
    "decoding": lambda server, patch: wrapped(
        server.engine._model.adapter, "decoding", lambda batch, _: of_rows(batch.rows))(patch),
    "choosing": lambda server, patch: wrapped(batches, "step_of", lambda job, *_: poisoned(job.row.text))(patch),
    "counting": lambda server, patch: wrapped(
        TokenChooser, "took", lambda self, _: self._choice.logit_bias == {3: 1.5})(patch),
    "text": lambda server, patch: wrapped(Answer, "take", lambda self, step: poisoned(step.job.row.text))(patch),
    "event": lambda server, patch: wrapped(TextRenderer, "piece", lambda self, *_: self.shown.considered)(patch),
    "usage": lambda server, patch: wrapped(TextRenderer, "usage", lambda self, *_: self.shown.considered)(patch),
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(loaded: RunningServer) -> list[str]:
    return [streamed(loaded, other(number))[0] for number in range(OTHERS)]


@pytest.mark.parametrize("step", list(FAULTS))
def test_a_fault_at_any_step_ends_its_own_request_only(
    loaded: RunningServer, undisturbed: list[str], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"prompt": POISON, "max_tokens": 40, "memedit": {"detail": True}, "logit_bias": {"3": 1.5}}
    body |= {"stream_options": {"include_usage": True}, "ignore_eos": True}
    if step == "look-up of the namespace":
        body["memedit"] = {"namespace": "poisoned"}
    running = [threading.Event() for _ in range(OTHERS)]
    with ThreadPoolExecutor(OTHERS) as pool:
        streams = [pool.submit(streamed, loaded, other(i), running[i].set) for i in range(OTHERS)]
        assert all(event.wait(30) for event in running)
        with monkeypatch.context() as patch:
            FAULTS[step](loaded, patch)
            refused = [streamed(loaded, body)[1] for _ in range(2)]
            found = [stream.result(60) for stream in streams]
    assert [error and error["code"] for error in refused] == ["internal_error"] * 2
    assert "out of range" not in str(refused)
    assert [error for _, error in found] == [None] * OTHERS
    assert [text for text, _ in found] == undisturbed
    assert streamed(loaded, body)[1] is None, "and all is well afterwards"


def test_requests_that_are_looked_up_together_fail_alone(tmp_path: Path) -> None:
    """The proxy's queue puts prompts of one namespace into one pass of the encoder."""
    import asyncio

    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add("The capital of Freedonia is", "Sylvania City", subject="Freedonia")
        lookups = Lookups(memory, scope="subject")
        real = lookups.decide

        def decide(namespace: str, queries: Any, **options: Any) -> Any:
            return fail() if any(map(poisoned, queries)) else real(namespace, queries, **options)

        lookups.decide = decide  # type: ignore[method-assign]

        async def ask() -> list[Any]:
            queue = LookupQueue(lookups)
            prompts = ["The capital of Freedonia is", POISON, *(f"thing {i}" for i in range(6))]
            try:
                return await asyncio.gather(*(queue.find("default", p) for p in prompts), return_exceptions=True)
            finally:
                queue.close()

        found = asyncio.run(ask())
    assert [isinstance(one, OverflowError) for one in found] == [i == 1 for i in range(8)]
    assert len(found[0].decisions[0].fired) == 1


def test_what_a_failed_pass_has_not_said_is_said_once(loaded: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that fails now and then for all, as when memory is short: answers and log probabilities are the same."""
    body = {"prompt": "Once upon a time", "max_tokens": 30, "seed": 3, "temperature": 1.0, "n": 3, "logprobs": 1}
    with loaded.client() as client:
        expected = client.post("/v1/completions", json=body).json()["choices"]
        model = loaded.engine._model.base
        passes = iter(range(10**6))
        handle = model.get_input_embeddings().register_forward_hook(
            lambda *_: fail() if next(passes) % 7 == 6 else None
        )
        try:
            found = client.post("/v1/completions", json=body).json()["choices"]
        finally:
            handle.remove()
    assert [choice["text"] for choice in found] == [choice["text"] for choice in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["logprobs"]["tokens"] == theirs["logprobs"]["tokens"]
        assert mine["logprobs"]["token_logprobs"] == pytest.approx(theirs["logprobs"]["token_logprobs"], abs=1e-4)
