"""Consolidation over HTTP, with real jobs in processes of their own on a tiny model."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit.config import ModelConfig
from memedit.memory import EditMemory
from memedit.server.consolidations import ConsolidationSetup, Consolidator
from memedit.server.settings import ServerSettings
from support.running_server import RunningServer, local_engine, serve
from support.tiny_encoder import save_tiny_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def consolidating(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Any, tiny_chat_tokenizer: Any
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("consolidating")
    tiny_llama.save_pretrained(folder / "model")
    tiny_chat_tokenizer.save_pretrained(folder / "model")
    encoder = str(save_tiny_encoder(folder / "encoder"))
    setup = ConsolidationSetup(str(folder / "edits.db"), encoder, ModelConfig(name=str(folder / "model")))
    with EditMemory(folder / "edits.db", encoder=encoder) as memory:
        engine, lookups = local_engine(tiny_llama, tiny_chat_tokenizer, memory)
        app_settings = ServerSettings(auth=False, requests_per_minute=0)
        with serve(engine, lookups, app_settings, consolidator=Consolidator(setup)) as server:
            yield server


@pytest.fixture
def client(consolidating: RunningServer) -> Iterator[httpx.Client]:
    with consolidating.client() as found:
        yield found


def ended(client: httpx.Client, job: Any, seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = client.get(f"/v1/consolidations/jobs/{job['id']}").json()
        if job["state"] != "running":
            return job
        time.sleep(0.2)
    raise AssertionError(job)


def test_nothing_is_there_at_first(client: httpx.Client) -> None:
    found = client.get("/v1/consolidations").json()
    assert found["aliases"] == {"candidate": None, "champion": None, "previous": None}
    assert (found["busy"], found["versions"], found["ledger"]) == (False, [], [])
    rolled = client.post("/v1/consolidations/rollback")
    assert (rolled.status_code, rolled.json()["error"]["code"]) == (409, "no_version")
    for path in ("jobs/none", "versions/v0001", "versions/champion"):
        assert client.get(f"/v1/consolidations/{path}").status_code == 404
    assert client.get("/v1/consolidations/versions/..%2F..%2Fetc").status_code in (400, 404)
    assert client.post("/v1/consolidations/withdraw", json={"ids": ["none"]}).status_code == 404
    assert client.post("/v1/consolidations", json={"statistics_text": "/etc/passwd"}).status_code == 400


def test_a_job_ends_and_says_what_it_did(client: httpx.Client, consolidating: RunningServer) -> None:
    """Whatever a random model learns of it, the job runs to its end and tells so."""
    client.post("/v1/edits", json={"prompt": "The colour of the sky is", "target": "green", "subject": "sky"})
    consolidator = consolidating.app.state.memedit.consolidator
    small = {"method": "memit", "rounds": 1, "statistics_tokens": 300, "perplexity_tokens": 16, "specificity_probes": 2}
    job = {"id": consolidator.start("default", "test", settings=small).id}
    second = client.post("/v1/consolidations", json={})
    assert (second.status_code, second.json()["error"]["code"]) == (409, "job_running")
    lines: list[str] = []
    with client.stream("GET", f"/v1/consolidations/jobs/{job['id']}/events", timeout=240) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert len(lines) >= 2
    final = ended(client, job)
    assert lines[-1].startswith("data: ")
    assert final["id"] in lines[-1]
    assert (final["state"], final["share"]) == ("done", 1.0), final["message"]
    assert final["message"]
    assert final["ended_at"] is not None
    assert client.get("/v1/consolidations").json()["jobs"][0] == final
    metrics = client.get("/metrics").text
    assert f'memedit_consolidation_jobs{{state="{final["state"]}"}} 1.0' in metrics


def test_a_job_can_be_ended(client: httpx.Client) -> None:
    started = client.post("/v1/consolidations", json={"again": True})
    job = started.json()
    assert (started.status_code, job["state"], job["kind"]) == (202, "running", "consolidation")
    cancelled = client.delete(f"/v1/consolidations/jobs/{job['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert ended(client, job)["state"] == "cancelled"


def test_other_namespaces_see_none_of_it(client: httpx.Client) -> None:
    found = client.get("/v1/consolidations", params={"namespace": "other"}).json()
    assert (found["jobs"], found["versions"]) == ([], [])


def test_a_server_without_it_has_no_such_routes(shared_server: RunningServer) -> None:
    with shared_server.client() as plain:
        assert plain.get("/v1/consolidations").status_code == 404


def test_namespaces_have_folders_of_their_own(tmp_path: Path) -> None:
    setup = ConsolidationSetup(str(tmp_path / "e.db"), "minilm", ModelConfig(), versions=tmp_path / "versions")
    folders = set()
    for namespace in ("a", "a/b", "a_b", "../a", "a b", "ä"):
        with setup.opened(namespace, "me") as (_, store):
            folders.add(store.root)
            assert store.root.parent == tmp_path / "versions"
    assert len(folders) == 6
    assert ConsolidationSetup.parse(setup.as_json()) == setup
