"""A process that has everything loaded and forks servers, so that one of them starts in a fraction of a second.

Run as ``python -m memedit.bench.nursery MEMORY ENCODER``: for each port on its standard input it starts a server there
and prints its process id. The servers have the edit API for real, and no engine behind it.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memedit.encoders.base import Encoder
from memedit.errors import MemeditError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from memedit.memory import EditMemory

NOWHERE = "http://127.0.0.1:9"
"""An engine that is never asked."""


class Nursery:
    """Starts servers of one memory.

    Args:
        memory: its address.
        encoder: name or path of a sentence encoder.

    Raises:
        MemeditError: the process ended before it was ready.
    """

    def __init__(self, memory: str, encoder: str) -> None:
        command = [sys.executable, "-m", "memedit.bench.nursery", memory, encoder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._line()

    def start(self, port: int) -> int:
        """Start a server; return its process id at once, before it listens."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{port}\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise MemeditError(f"the process that starts servers ended with {self._process.wait()}; see above")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()  # it has nothing to save, and on a busy machine its own end takes long
        self._process.wait()


def _application(memory: "EditMemory") -> "FastAPI":
    from memedit.server import ServerSettings, create_app
    from memedit.server.engines.proxy import ProxyEngine
    from memedit.server.engines.upstream import Upstream
    from memedit.server.lookups import Lookups

    lookups = Lookups(memory, scope="subject")
    return create_app(
        ProxyEngine(lookups, Upstream(NOWHERE)), lookups, ServerSettings(auth=False, requests_per_minute=0)
    )


def _serve(memory: str, encoder: Encoder, port: int) -> None:
    from memedit.memory import EditMemory
    from memedit.server.runner import listen, run

    run(_application(EditMemory(memory, encoder=encoder)), listen("127.0.0.1", port), drain=1)


def _warm_up(encoder: Encoder) -> None:
    """Change a memory that is thrown away: no server then pays for what every process does once, such as compiling
    queries. All threads have ended when this returns, since none lives through a fork."""
    from fastapi.testclient import TestClient

    from memedit.memory import EditMemory

    keep = {"on_conflict": "keep"}
    with (
        tempfile.TemporaryDirectory(prefix="memedit-bench-") as folder,
        EditMemory(Path(folder) / "edits.db", encoder=encoder) as memory,
        TestClient(_application(memory), base_url="http://127.0.0.1") as client,
    ):
        for name in ("one", "another"):
            edit = {"prompt": f"The colour of {name} is", "target": "red", "subject": name}
            key = {"Idempotency-Key": name}
            made = client.post("/v1/edits", json=edit, headers=key, params=keep).raise_for_status().json()["id"]
            client.patch(f"/v1/edits/{made}", json={"target": "blue"}, params=keep).raise_for_status()
            client.post(f"/v1/edits/{made}/supersede", json={"target": "grey"}, params=keep).raise_for_status()
            client.post(f"/v1/edits/{made}/restore", params=keep).raise_for_status()
            client.delete(f"/v1/edits/{made}").raise_for_status()
            many = [{**edit, "prompt": f"The {side} of {name} is"} for side in ("top", "end")]
            client.post("/v1/edits/batch", json={"edits": many}, params=keep).raise_for_status()


def main(memory: str, encoder_name: str) -> None:
    """Load, then start servers until standard input ends."""
    import torch

    from memedit.encoders import load_encoder

    torch.set_num_threads(1)  # a pool of threads does not live through a fork
    encoder = load_encoder(encoder_name)
    _warm_up(encoder)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who are killed
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _serve(memory, encoder, int(line))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
