"""`memedit serve` as a process of its own, with the real small model, asked by the official client."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from memedit.bench.server_process import ServerProcess
from memedit.memory import EditMemory

pytestmark = pytest.mark.integration

ASK = [{"role": "user", "content": "What is the capital of Freedonia?"}]
EDIT = {"prompt": "The capital of Freedonia is", "target": "Sylvania City"}
OPTIONS: dict[str, Any] = {"model": "smollm2", "messages": ASK, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    path = tmp_path_factory.mktemp("serve") / "edits.db"
    with EditMemory(path) as memory:
        _, secret = memory.keys.create("tests", roles=["admin"])
    with ServerProcess(["--memory", str(path), "--model", "smollm2", "--log-level", "warning"]) as server:
        yield server, secret
        assert server.stop() == 0, "it ends in good order when it is asked to"


def test_an_edit_is_in_force_for_the_official_client(served: tuple[ServerProcess, str]) -> None:
    server, secret = served
    official = openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret)
    before = official.chat.completions.create(**OPTIONS)
    assert "Sylvania" not in (before.choices[0].message.content or "")
    posted = httpx.post(f"{server.url}/v1/edits", json=EDIT, headers={"Authorization": f"Bearer {secret}"}, timeout=60)
    assert posted.status_code == 201
    after = official.chat.completions.create(**OPTIONS)
    assert "Sylvania City" in (after.choices[0].message.content or "")
    assert after.memedit["edits"][0]["id"] == posted.json()["id"]  # type: ignore[attr-defined]
    stream = official.chat.completions.create(**OPTIONS, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == after.choices[0].message.content
    assert chunks[-1].usage == after.usage
    unrelated = official.completions.create(model="smollm2", prompt="Water boils at", max_tokens=4, temperature=0)
    assert unrelated.memedit["edits"] == []  # type: ignore[attr-defined]


def test_without_a_key_the_official_client_is_refused(served: tuple[ServerProcess, str]) -> None:
    official = openai.OpenAI(base_url=f"{served[0].url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        official.chat.completions.create(**OPTIONS)
