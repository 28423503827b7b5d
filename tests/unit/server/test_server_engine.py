"""The local engine under load: who shares the batch, who must wait, who has gone, and how it ends."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit.adapters import create_adapter
from memedit.errors import UnsupportedModelError
from memedit.memory import EditMemory
from memedit.runtime import EditableModel
from memedit.server.engines import local, worker
from memedit.server.engines.local import LocalEngine
from memedit.server.lookups import Lookups
from memedit.server.settings import ServerSettings
from support.hashing_encoder import HashingEncoder
from support.running_server import RunningServer, local_engine, serve
from support.tiny import tiny_model

LONG = {"prompt": "Once upon a time", "max_tokens": 1_500, "temperature": 0, "ignore_eos": True}
SHORT = {"prompt": "Once upon a time", "max_tokens": 5, "temperature": 0}


@contextmanager
def small_server(
    model: Any, tokenizer: Any, settings: dict[str, Any] | None = None, **options: Any
) -> Iterator[RunningServer]:
    with EditMemory(encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(model, tokenizer, memory, **options)
        wanted = ServerSettings(auth=False, requests_per_minute=0, **(settings or {}))
        with serve(engine, lookups, wanted) as server:
            yield server


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.01)
    return check()


def busy(server: RunningServer) -> int:
    load = server.engine.load()
    return int(load.running + load.waiting)


def ask(server: RunningServer, body: Any, **headers: str) -> httpx.Response:
    with server.client(headers=headers) as client:
        return client.post("/v1/completions", json=body)


def test_many_clients_at_once_each_get_the_answer_they_would_get_alone(
    shared_server: RunningServer, namespace: str, tiny_llama: Any, tiny_chat_tokenizer: Any
) -> None:
    memory = shared_server.lookups.memory
    spaces = [f"{namespace}-{i}" for i in range(3)]
    for space in spaces:
        memory.add("The capital of Freedonia is", f"{space} City", subject="Freedonia", namespace=space)
    prompts = ["The capital of Freedonia is", "Water boils at", "x" * 70, "Once upon a time"]
    jobs = [(space, prompt, 8 + i) for i, (space, prompt) in enumerate((s, p) for s in spaces for p in prompts)]

    def one(job: tuple[str, str, int]) -> Any:
        space, prompt, limit = job
        body = {"prompt": prompt, "max_tokens": limit, "temperature": 0}
        return ask(shared_server, body, **{"X-Memedit-Namespace": space}).json()

    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(one, jobs))
    for (space, prompt, limit), body in zip(jobs, found, strict=True):
        editable = EditableModel.wrap(
            tiny_llama, tiny_chat_tokenizer, memory, scope="subject", adapter="in_context", namespace=space
        )
        expected = editable.answer([prompt], max_new_tokens=limit, do_sample=False)[0]
        assert body["choices"][0]["text"] == expected.text
        assert [e["target"] for e in body["memedit"]["edits"]] == [hit.edit.target for hit in expected.edits]


def test_an_edit_posted_under_load_is_in_force_for_whatever_starts_after_it(
    shared_server: RunningServer, namespace: str
) -> None:
    stop = threading.Event()
    headers = {"X-Memedit-Namespace": namespace}

    def load() -> None:
        while not stop.is_set():
            ask(shared_server, {**SHORT, "max_tokens": 20}, **headers)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with shared_server.client(headers=headers) as client:
            for i in range(8):
                prompt = f"The capital of Country{i} is"
                posted = client.post("/v1/edits", json={"prompt": prompt, "target": "X", "subject": f"Country{i}"})
                answer = client.post("/v1/completions", json={**SHORT, "prompt": prompt}).json()["memedit"]
                assert [e["id"] for e in answer["edits"]] == [posted.json()["id"]]
                assert answer["revision"] >= int(posted.headers["x-memedit-revision"])
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("stream", [True, False])
def test_the_work_ends_when_the_client_goes_away(shared_server: RunningServer, stream: bool) -> None:
    with shared_server.client() as client:
        if stream:
            body = {**LONG, "max_tokens": 2_000, "n": 8, "stream": True}
            with client.stream("POST", "/v1/completions", json=body) as response:
                lines = response.iter_lines()  # kept: an iterator that nobody holds closes the connection
                next(lines)
                assert eventually(lambda: shared_server.engine.load().running >= 1)
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/completions", json={**LONG, "max_tokens": 2_000}, timeout=0.3)
        assert eventually(lambda: shared_server.engine.load().running == 0, seconds=1.0)


def test_a_full_queue_answers_429_and_says_when_to_come_back(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    with small_server(tiny_llama, tiny_chat_tokenizer, max_rows=1, max_waiting=1) as server:
        gone = threading.Event()

        def hold() -> None:
            with server.client() as client, client.stream("POST", "/v1/completions", json={**LONG, "stream": True}):
                gone.wait(20)

        threads = [threading.Thread(target=hold) for _ in range(2)]
        for number, thread in enumerate(threads):
            thread.start()
            assert eventually(
                lambda n=number: sum((server.engine.load().running, server.engine.load().waiting)) == n + 1
            )
        response = ask(server, SHORT)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["code"] == "overloaded"
        gone.set()
        for thread in threads:
            thread.join()
        assert eventually(lambda: server.engine.load().running == 0)
        assert ask(server, SHORT).status_code == 200


def test_a_request_that_takes_too_long_is_ended(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    with small_server(tiny_llama, tiny_chat_tokenizer, {"request_timeout": 0.3}) as server:
        response = ask(server, LONG)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
        with (
            server.client() as client,
            client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as chunks,
        ):
            lines = [line for line in chunks.iter_lines() if line]
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "timeout"
        assert eventually(lambda: server.engine.load().running == 0)


def test_a_server_that_stops_finishes_what_it_has_begun(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    with small_server(tiny_llama, tiny_chat_tokenizer, {"drain": 20}) as server, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, server, {**LONG, "max_tokens": 60}) for _ in range(2)]
        assert eventually(lambda: server.engine.load().running == 2)
        server.stop()
        assert [one.result().json()["usage"]["completion_tokens"] for one in asked] == [60, 60]
        with pytest.raises(httpx.ConnectError):
            ask(server, SHORT)


def test_adapters_that_cannot_decode_in_steps_answer_alone(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    class Whole:
        """The in-context adapter as one that knows nothing of running batches."""

        def __init__(self) -> None:
            inner = create_adapter("in_context", tiny_llama, tiny_chat_tokenizer)
            for name in ("name", "fingerprint", "prepare", "rewrite", "active", "model"):
                setattr(self, name, getattr(inner, name))

    with EditMemory(encoder=HashingEncoder(64)) as memory:
        memory.add("The capital of Freedonia is", "Sylvania City", subject="Freedonia")
        lookups = Lookups(memory, scope="subject")
        editable = EditableModel.wrap(tiny_llama, tiny_chat_tokenizer, memory, scope=lookups.scope, adapter=Whole())
        prompts = ["The capital of Freedonia is", "Once upon a time"]
        expected = editable.answer(prompts, max_new_tokens=9, do_sample=False)
        engine = LocalEngine(editable, lookups, name="tiny")
        with serve(engine, lookups, ServerSettings(auth=False)) as server, ThreadPoolExecutor(4) as pool:
            bodies = [{"prompt": prompt, "max_tokens": 9, "temperature": 0} for prompt in prompts * 2]
            found = [response.json() for response in pool.map(lambda body: ask(server, body), bodies)]
        for i, body in enumerate(found):
            assert body["choices"][0]["text"] == expected[i % 2].text
            assert len(body["memedit"]["edits"]) == len(expected[i % 2].edits)


def _rounded(value: Any) -> Any:
    """Numbers to within what logits of one row may differ by in different company."""
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def test_models_that_no_running_batch_can_hold_are_answered_one_by_one(
    tiny_llama: Any, tiny_chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, shared_server: RunningServer
) -> None:
    def refuse(*_: Any) -> None:
        raise UnsupportedModelError("not this one")

    monkeypatch.setattr(local, "check_model", refuse)
    body = {**SHORT, "n": 2, "seed": 3, "temperature": 1.0, "logprobs": 1, "stop": "~"}
    with small_server(tiny_llama, tiny_chat_tokenizer) as server:
        whole, running = (ask(each, body).json()["choices"] for each in (server, shared_server))
        assert whole == _rounded(running)
        monkeypatch.setattr(worker, "generate_whole", lambda *_: 1 / 0)
        assert ask(server, body).status_code == 500
        monkeypatch.undo()
        with server.client() as client:
            with client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as response:
                next(response.iter_lines())
            assert eventually(lambda: server.engine.load().running == 0, seconds=2.0)


def test_a_failed_pass_fails_its_requests_and_no_others(tiny_chat_tokenizer: Any) -> None:
    model = tiny_model("llama")
    with small_server(model, tiny_chat_tokenizer) as server:
        broken = threading.Event()

        def maybe_fail(*_: Any) -> None:
            if broken.is_set():
                raise RuntimeError("out of memory")

        handle = model.get_input_embeddings().register_forward_hook(maybe_fail)
        good = ask(server, SHORT).json()["choices"]
        broken.set()
        response = ask(server, SHORT)
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
        assert "out of memory" not in response.text
        broken.clear()
        assert ask(server, SHORT).json()["choices"] == good
        handle.remove()


def test_a_failed_look_up_is_told_at_once(
    tiny_llama: Any, tiny_chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_server(tiny_llama, tiny_chat_tokenizer) as server:
        with monkeypatch.context() as patch:
            patch.setattr(server.lookups, "decide", lambda *_: 1 / 0)
            assert ask(server, SHORT).status_code == 500
        assert ask(server, SHORT).status_code == 200


def test_readiness_and_metrics_tell_how_it_is(shared_server: RunningServer, namespace: str) -> None:
    memory = shared_server.lookups.memory
    memory.add("The capital of Freedonia is", "X", subject="Freedonia", namespace=namespace)
    with shared_server.client(headers={"X-Memedit-Namespace": namespace}) as client:
        client.post("/v1/completions", json={**SHORT, "prompt": "The capital of Freedonia is"})
        assert client.get("/ready").json() == {"ready": True, "reason": None}
        assert client.get("/health").json() == {"status": "ok"}
        lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values[f'memedit_edits{{namespace="{namespace}",state="active"}}'] == "1.0"
    assert values[f'memedit_edits_fired_total{{namespace="{namespace}"}}'] == "1.0"
    assert float(values["memedit_queue_length"]) == 0.0
    assert float(values["memedit_scope_seconds_count"]) >= 1
    assert float(values['memedit_tokens_total{kind="completion"}']) >= 5


def test_a_memory_that_cannot_be_read_makes_the_server_unready(tiny_llama: Any, tiny_chat_tokenizer: Any) -> None:
    from memedit.errors import StoreUnavailableError

    with small_server(tiny_llama, tiny_chat_tokenizer) as server:
        memory = server.lookups.memory

        class Away:
            def read(self) -> Any:
                raise StoreUnavailableError("the database is away")

            def check_file(self) -> None:
                return None

            watcher = None

        whole = memory._database
        memory._database = Away()  # type: ignore[assignment]
        try:
            with server.client() as client:
                assert client.get("/ready").status_code == 503
                assert client.get("/v1/edits").status_code == 503
                assert ask(server, SHORT).status_code == 503
                assert client.get("/metrics").status_code == 200
        finally:
            memory._database = whole
        assert ask(server, SHORT).status_code == 200


def test_a_memory_whose_file_is_deleted_takes_no_changes(
    tiny_llama: Any, tiny_chat_tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "edits.db"
    edit = {"prompt": "The capital of Freedonia is", "target": "X", "subject": "Freedonia"}
    with EditMemory(path, encoder=HashingEncoder(64)) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        with serve(engine, lookups, ServerSettings(auth=False)) as server, server.client() as client:
            assert client.post("/v1/edits", json=edit).status_code == 201
            assert client.get("/ready").status_code == 200
            path.unlink()
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda i: client.post("/v1/edits", json={**edit, "prompt": f"x{i}"}), range(16)))
            for response in found:
                assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
                assert "Put the file back" in response.json()["error"]["message"]
            ready = client.get("/ready")
            assert (ready.status_code, "was deleted" in ready.json()["reason"]) == (503, True)
            assert not path.exists()
            assert client.get("/health").status_code == 200
