"""`memedit serve --model champion` as a process of its own, and another process that publishes and rolls back."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from memedit import EditMemory, load_model
from memedit.bench.server_process import ServerProcess
from memedit.consolidation.overlays import FrozenBase
from memedit.workflows.consolidate.versions import version_store
from support.made_versions import made_version

pytestmark = pytest.mark.integration

ASK: dict[str, Any] = {"prompt": "The capital of France is the city of", "max_tokens": 12, "temperature": 0}


def memedit(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "memedit.cli.main", *words], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr


def answered(url: str) -> tuple[str | None, str]:
    body = httpx.post(f"{url}/v1/completions", json=ASK, timeout=60).json()
    return body["memedit"]["version"], body["choices"][0]["text"]


def noticed(url: str, version: str | None, since: float) -> str:
    while time.monotonic() - since < 10.0:
        found, text = answered(url)
        if found == version:
            return text
        time.sleep(0.1)
    raise AssertionError(f"{version} did not come")


def test_the_real_model_follows_what_another_process_publishes(tmp_path: Path) -> None:
    base, path = load_model("smollm2"), tmp_path / "edits.db"
    expected: dict[str | None, str] = {}

    def say(version: str | None) -> None:
        ids = base.tokenizer(ASK["prompt"], return_tensors="pt")["input_ids"]
        new = base.model.generate(ids, max_new_tokens=ASK["max_tokens"], do_sample=False)[0, ids.shape[1] :]
        expected[version] = base.tokenizer.decode(new, skip_special_tokens=True)

    say(None)
    frozen = FrozenBase(base.model, base.tokenizer, "smollm2")
    with EditMemory(path) as memory:
        memory.add("The capital of Freedonia is", "Sylvania City")
        store = version_store(memory)
        for seed in (1, 2):
            name = made_version(store, base, [], seed=seed, layers=(4, 5), scale=0.2)
            with frozen.version(store, name)[1].on(base.model):
                say(name)
        store.promote("v0001")
    assert len(set(expected.values())) == 3
    options = ["--memory", str(path), "--model", "champion", "--no-auth", "--log-level", "warning"]
    with ServerProcess(options) as server:
        assert answered(server.url) == ("v0001", expected["v0001"])
        for words, version in ((("versions", "promote", "v0002"), "v0002"), (("rollback",), "v0001")):
            memedit(*words, "--memory", str(path))
            assert noticed(server.url, version, time.monotonic()) == expected[version]
        rolled = httpx.post(f"{server.url}/v1/consolidations/rollback", timeout=60).json()
        assert answered(server.url) == (rolled["champion"], expected[rolled["champion"]])
        store.promote(None)
        assert noticed(server.url, None, time.monotonic()) == expected[None]
        assert server.stop() == 0
