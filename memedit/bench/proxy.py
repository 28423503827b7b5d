"""What the proxy costs on prompts that no edit touches: time to the first token, with it and without it."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from memedit.bench.common import percentiles
from memedit.bench.server_process import ServerProcess
from memedit.errors import InputError, MemeditError
from memedit.memory import EditMemory

Progress = Callable[[int, int], None]
_TOPICS = ("rice", "glass", "steel", "bread", "paper", "honey", "cheese", "bricks", "rope", "soap", "ink", "felt")
_FORMS = (
    "What is the best way to make {} at home for {} people?",
    "Explain in simple terms how {} is made, in {} sentences.",
    "Write {1} lines of verse about {0} and the sea.",
    "My neighbour ordered {1} boxes of {0}; what should I tell her about storing it?",
)


def run(
    *,
    edits: int = 1_000,
    requests: int = 200,
    first_token: Sequence[float] = (0.0, 0.05),
    encoder: str = "minilm",
    scope: str = "default",
    upstream: str | None = None,
    model: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the time to the first token of streamed chats, directly and through ``memedit serve --upstream``.

    Requests go one at a time over kept connections, alternately direct and proxied, each with its own prompt. Reported
    for each upstream: percentiles in milliseconds of both and of their paired difference, which is the overhead, with
    and without sending prompts on while they are looked up.

    Args:
        edits: made-up facts in the memory.
        requests: pairs of requests for each upstream, after ten that are not counted.
        first_token: seconds after which the pacing upstream says its first token; one run each.
        encoder: name of the sentence encoder; ``scope`` a registered name.
        upstream: a real engine to measure against instead of the pacing one; ``model`` is its name of the model.
        progress: called with (done, total).

    Raises:
        InputError: a number is below 1.
        MemeditError: a server did not start, an edit fired on the traffic, or a request failed.
    """
    if min(edits, requests) < 1:
        raise InputError(f"edits={edits}, requests={requests}: both >= 1")
    targets = [None] if upstream is not None else list(first_token)
    done, total = 0, 2 * len(targets) * requests
    results = []
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder) / "edits.db"
        _fill(memory, edits, encoder)
        options = ["--memory", str(memory), "--encoder", encoder, "--scope", scope, "--no-auth"]
        options += ["--upstream-model", model] if model else []
        for delay in targets:
            with _upstream(delay, upstream) as url:
                for overlap in (True, False):
                    pairs = []
                    chosen = [*options, "--overlap" if overlap else "--no-overlap"]
                    for pair in _pairs(url, chosen, model, requests):
                        pairs.append(pair)
                        done += 1
                        if progress is not None:
                            progress(done, total)
                    results.append({"first_token_s": delay, "overlap": overlap, **_summary(pairs)})
    return {"benchmark": "proxy", "edits": edits, "upstream": upstream or "pacing", "results": results}


def _fill(path: Path, count: int, encoder: str) -> None:
    drafts = [{"prompt": f"The capital of Zarn{i:05d}ia is", "target": f"Town {i}"} for i in range(count)]
    with EditMemory(path, encoder=encoder) as memory:
        memory.add_many(drafts, on_conflict="keep")


@contextlib.contextmanager
def _upstream(delay: float | None, url: str | None) -> Iterator[str]:
    if delay is None:
        yield str(url)
        return
    command = [sys.executable, "-m", "memedit.bench.mock_upstream", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def _pairs(url: str, options: Sequence[str], model: str, count: int) -> Iterator[tuple[float, float]]:
    """Yield seconds to the first token (directly, through the proxy)."""
    prompts = _prompts(2 * (count + 10))
    with ServerProcess(["--upstream", url, *options]) as server, httpx.Client(timeout=120) as client:
        for number in range(count + 10):
            order = (url, server.url) if number % 2 else (server.url, url)
            taken = {at: _first_token(client, at, model, next(prompts)) for at in order}
            if number >= 10:
                yield taken[url], taken[server.url]


def _prompts(count: int) -> Iterator[str]:
    for number in range(count):
        form, topic = _FORMS[number % len(_FORMS)], _TOPICS[number // len(_FORMS) % len(_TOPICS)]
        yield form.format(topic, number + 2)


def _first_token(client: httpx.Client, url: str, model: str, prompt: str) -> float:
    """Ask, read the whole stream, and return the seconds to the first token."""
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "max_tokens": 4,
        "model": model or "pace",
    }
    first = None
    began = time.perf_counter()
    with client.stream("POST", f"{url.removesuffix('/v1')}/v1/chat/completions", json=body) as response:
        if not response.is_success:
            raise MemeditError(f"{url} answered {response.status_code}: {response.read().decode()[:300]}")
        for line in response.iter_lines():
            if first is None and line.startswith("data: {") and _says(json.loads(line[6:])):
                first = time.perf_counter() - began
        if "X-Memedit-Edits" in response.headers:
            raise MemeditError(f"an edit fired on {prompt!r}; the overhead is of prompts that none touches")
    if first is None:
        raise MemeditError(f"{url} said nothing to {prompt!r}")
    return first


def _says(chunk: dict[str, Any]) -> bool:
    return any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ()))


def _summary(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    direct, proxied = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "direct_ms": percentiles(direct),
        "proxied_ms": percentiles(proxied),
        "overhead_ms": percentiles([b - a for a, b in pairs]),
    }
