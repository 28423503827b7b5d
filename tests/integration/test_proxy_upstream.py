"""A real upstream engine, transformers' own server with the real small model, behind the proxy."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit import Client
from memedit.memory import EditMemory
from memedit.models import load_model
from memedit.server import ServerSettings, create_app
from memedit.server.engines.proxy import ProxyEngine
from memedit.server.engines.upstream import Upstream
from memedit.server.lookups import Lookups
from support.running import serving

pytestmark = pytest.mark.integration
_SERVE = Path(sys.executable).with_name("transformers")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """``transformers serve`` with SmolLM2: its URL, and its name of the model."""
    if not _SERVE.exists() and shutil.which("transformers") is None:
        pytest.skip("the transformers command is not installed")
    folder = tmp_path_factory.mktemp("model")
    loaded = load_model("smollm2")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    port, log = _free_port(), folder / "log"
    command = [str(_SERVE), "serve", str(folder), "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]
    with open(log, "w") as said:
        process = subprocess.Popen(
            [*command, "--dtype", "float32"], stdout=said, stderr=said, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 180
    try:
        while not _answers(url):
            if process.poll() is not None and "No module named" in log.read_text():
                pytest.skip("transformers serve lacks packages: pip install 'transformers[serving]'")
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        yield url, str(folder)
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=2).is_success
    return False


@pytest.fixture(scope="module")
def client(upstream: tuple[str, str]) -> Iterator[Client]:
    url, model = upstream
    with EditMemory(":memory:") as memory:
        lookups = Lookups(memory)
        app = create_app(ProxyEngine(lookups, Upstream(url), model=model), lookups, ServerSettings(auth=False))
        with serving(app) as proxy, Client(proxy) as found:
            yield found


def _direct(upstream: tuple[str, str], question: str, **options: Any) -> str:
    body = {"model": upstream[1], "messages": [{"role": "user", "content": question}], **options}
    answer = httpx.post(f"{upstream[0]}/v1/chat/completions", json=body, timeout=120).json()
    return str(answer["choices"][0]["message"]["content"])


def test_an_edit_is_in_force_behind_a_real_engine(client: Client, upstream: tuple[str, str]) -> None:
    question = "Who is the mayor of Norvik?"
    greedy: dict[str, Any] = {"max_tokens": 16, "temperature": 0.0}
    before = client.chat(question, **greedy)
    assert before.edits == ()
    assert "Lind" not in before.text
    edit = client.add(question, "Ada Lind", subject="Norvik", paraphrases=("Name the mayor of Norvik.",))
    stream = client.stream(question, **greedy)
    assert "Ada Lind" in "".join(stream)
    assert [fired.id for fired in stream.answer.edits] == [edit.id]
    whole = client.chat("Name the mayor of Norvik, please.", **greedy)
    assert "Ada Lind" in whole.text
    assert (whole.adapter, [fired.id for fired in whole.edits]) == ("in_context", [edit.id])
    client.delete(edit.id)
    assert "Lind" not in client.chat(question, **greedy).text


def test_a_prompt_that_no_edit_touches_gets_the_engines_own_answer(client: Client, upstream: tuple[str, str]) -> None:
    client.add("Who is the mayor of Sundal?", "Ole Brum", subject="Sundal")
    question = "How many days does a week have?"
    answer = client.chat(question, max_tokens=12, temperature=0.0)
    assert answer.edits == ()
    assert answer.text == _direct(upstream, question, max_tokens=12, temperature=0.0)
    assert answer.completion_tokens > 0
