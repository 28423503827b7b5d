"""How soon an edit made at one server is in force at another on the same PostgreSQL."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from memedit.bench.common import percentiles
from memedit.bench.server_process import ServerProcess
from memedit.errors import InputError, MemeditError

Progress = Callable[[int, int], None]
_PATIENCE = 10.0


def run(
    url: str,
    *,
    edits: int = 200,
    encoder: str = "minilm",
    scope: str = "default",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make edits at one ``memedit serve`` and ask a second one about each until it fires there.

    Reported in milliseconds, from the first server's response to the start of the earliest look-up of the second one
    in which the edit fires: percentiles over the edits; beside it the same for a withdrawal, and the time of one such
    look-up, which is the resolution. Edits go into a namespace of their own and are withdrawn in the end.

    Args:
        url: ``postgresql://`` URL of a database that may be written.
        edits: how many.
        encoder: name of the sentence encoder; ``scope`` a registered name.
        progress: called with (done, total).

    Raises:
        InputError: ``edits`` is below 1, or the URL is not PostgreSQL's.
        MemeditError: a server did not start, or an edit was not in force after ten seconds.
    """
    if edits < 1 or not url.startswith("postgres"):
        raise InputError(f"edits={edits}, url={url!r}: at least 1, and a postgresql:// URL")
    options = ["--memory", url, "--encoder", encoder, "--scope", scope, "--no-auth"]
    command = [sys.executable, "-m", "memedit.bench.mock_upstream", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as upstream:
        try:
            assert upstream.stdout is not None
            options += ["--upstream", f"http://127.0.0.1:{int(upstream.stdout.readline())}"]
            with ServerProcess(options) as one, ServerProcess(options) as other:
                found = _measure(one.url, other.url, edits, progress)
        finally:
            upstream.terminate()
    return {"benchmark": "shared", "edits": edits, **found}


def _measure(one: str, other: str, count: int, progress: Progress | None) -> dict[str, Any]:
    headers = {"X-Memedit-Namespace": f"bench-{uuid.uuid4().hex[:12]}"}
    made: list[float] = []
    withdrawn: list[float] = []
    asked: list[float] = []
    with httpx.Client(headers=headers, timeout=60) as client:
        client.post(f"{other}/v1/edits/explain", json={"prompt": "Who leads Norvik?"})  # loads what is loaded once
        for number in range(count):
            prompt = f"Who is the mayor of Zarn{number:04d}?"
            edit = _json(client.post(f"{one}/v1/edits", json={"prompt": prompt, "target": f"Mayor {number}"}))
            made.append(_until(client, other, prompt, True, asked))
            _json(client.delete(f"{one}/v1/edits/{edit['id']}"))
            withdrawn.append(_until(client, other, prompt, False, asked))
            if progress is not None:
                progress(number + 1, count)
    return {
        "in_force_ms": percentiles(made),
        "withdrawn_ms": percentiles(withdrawn),
        "lookup_ms": percentiles(asked),
    }


def _until(client: httpx.Client, url: str, prompt: str, wanted: bool, asked: list[float]) -> float:
    """Seconds until the start of the first look-up at ``url`` on which the edit fires, or no longer does."""
    began = time.perf_counter()
    while True:
        start = time.perf_counter()
        found = _json(client.post(f"{url}/v1/edits/explain", json={"prompt": prompt}))
        asked.append(time.perf_counter() - start)
        if bool(found["fired"]) is wanted:
            return start - began
        if start - began > _PATIENCE:
            raise MemeditError(f"a change was not in force at {url} after {_PATIENCE:g} s")


def _json(response: httpx.Response) -> Any:
    if not response.is_success:
        raise MemeditError(f"{response.request.url} answered {response.status_code}: {response.text[:300]}")
    return response.json()
