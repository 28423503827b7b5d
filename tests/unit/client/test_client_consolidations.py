"""Consolidation through the client: a real store of versions, and a real job that fails for want of a model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from memedit import Client
from memedit.config import ModelConfig
from memedit.errors import EditNotFoundError, ServiceError
from memedit.memory import EditMemory
from memedit.server.consolidations import ConsolidationSetup, Consolidator
from memedit.workflows.consolidate.versions import version_store
from support.hashing_encoder import HashingEncoder
from support.running import proxy_app, serving
from support.scripted_upstream import ScriptedUpstream
from support.version_files import build

pytestmark = pytest.mark.slow


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    path = tmp_path / "edits.db"
    setup = ConsolidationSetup(str(path), "minilm", ModelConfig(name=str(tmp_path / "no model")))
    with EditMemory(path, encoder=HashingEncoder()) as memory:
        memory.add("Who leads Norvik?", "Ole", subject="Norvik")
        app = proxy_app(memory, ScriptedUpstream(), Consolidator(setup))
        with serving(app) as url, Client(url) as found:
            yield found


def test_versions_are_published_and_rolled_back(client: Client, tmp_path: Path) -> None:
    runs = client.consolidations
    assert (runs.versions(), runs.aliases()["champion"]) == ((), None)
    with pytest.raises(ServiceError, match="nothing to roll back") as refused:
        runs.rollback()
    assert (refused.value.status, refused.value.code) == (409, "no_version")
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder()) as memory:
        names = [version_store(memory).make(build) for _ in range(2)]
    for name in names:
        assert runs.publish(name)["champion"] == name
    assert runs.version("champion").name == names[1]
    assert runs.rollback() == {"candidate": names[1], "champion": names[0], "previous": names[1]} | runs.aliases()
    assert runs.aliases()["champion"] == names[0]
    newest = runs.versions()[0]
    assert (newest.name, newest.method, newest.gates[0]["name"]) == (names[1], "alphaedit", "efficacy")


def test_a_job_is_watched_to_its_end(client: Client) -> None:
    runs = client.consolidations
    job = runs.start(method="memit", publish=False)
    assert job.state == "running"
    states = list(runs.watch(job.id))
    assert (states[-1].state, runs.job(job.id)) == ("failed", states[-1])
    assert "no model" in (states[-1].message or "")
    second = runs.start()
    assert runs.cancel(second.id).id == second.id
    assert [found.id for found in runs.jobs()] == [second.id, job.id]
    with pytest.raises(EditNotFoundError):
        runs.withdraw(["nothing"])
