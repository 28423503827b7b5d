"""A process that has everything loaded and forks servers, so that one of them starts in a fraction of a second.

Run as ``python -m memedit.bench.nursery MEMORY ENCODER``: for each port on its standard input it starts a server there
and prints its process id. The servers have the edit API for real, and no engine behind it.
"""

import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self

from memedit.encoders.base import Encoder
from memedit.errors import MemeditError

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


def _serve(memory: str, encoder: Encoder, port: int) -> None:
    from memedit.memory import EditMemory
    from memedit.server import ServerSettings, create_app
    from memedit.server.engines.proxy import ProxyEngine
    from memedit.server.engines.upstream import Upstream
    from memedit.server.lookups import Lookups
    from memedit.server.runner import listen, run

    lookups = Lookups(EditMemory(memory, encoder=encoder), scope="subject")
    settings = ServerSettings(auth=False, requests_per_minute=0)
    run(create_app(ProxyEngine(lookups, Upstream(NOWHERE)), lookups, settings), listen("127.0.0.1", port), drain=1)


def main(memory: str, encoder_name: str) -> None:
    """Load, then start servers until standard input ends."""
    import torch

    from memedit.encoders import load_encoder
    from memedit.server import create_app  # imported before the first fork
    from memedit.server.engines import proxy

    del create_app, proxy
    torch.set_num_threads(1)  # a pool of threads does not live through a fork
    encoder = load_encoder(encoder_name)
    encoder.encode(["loaded"])
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
