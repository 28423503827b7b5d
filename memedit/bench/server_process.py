"""``memedit serve`` as a process of its own, for load tests and crash tests."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from memedit.errors import MemeditError

_STARTED = re.compile(r"memedit serves .* on (http://\S+)")


class ServerProcess:
    """Starts ``memedit serve`` with some options on a free port and waits until it answers.

    Args:
        options: further options of the command; ``--port 0`` is added.
        environment: of the process.
        seconds: how long to wait for it.

    Raises:
        MemeditError: it ended, or did not answer in time; shows what it said.
    """

    def __init__(
        self, options: Sequence[str], *, environment: Mapping[str, str] | None = None, seconds: float = 900.0
    ) -> None:
        command = [sys.executable, "-m", "memedit.cli.main", "serve", "--port", "0", *options]
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        self._said: deque[str] = deque(maxlen=50)
        self._ready = threading.Event()
        self.url = ""
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._ready.wait(seconds) or not self.url:
            self.kill()
            raise MemeditError("the server did not start: " + " | ".join(self._said))

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.strip())
            if found := _STARTED.search(line):
                self.url = found.group(1)
                self._ready.set()
        self._ready.set()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 60.0) -> int:
        """Ask it to stop; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        self.kill()
        return -signal.SIGKILL

    def processor_seconds(self) -> float:
        """Return the processor time it has used so far; 0 where the system does not tell."""
        try:
            with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the memory that it holds; 0 where the system does not tell."""
        try:
            with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop()
