"""Measure look-ups by FAISS and by pgvector in one memory on a PostgreSQL server of its own.

Run from the repository, after ``make test-postgres``:
``PYTHONPATH=tests python tests/postgres/measure_pgvector.py [EDITS]``.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from memedit.bench.vectors import make_corpus
from memedit.encoders import load_encoder
from memedit.memory import EditMemory
from memedit.types import Encoding
from support.postgres_server import PostgresServer, find_binaries, find_bundled_binaries

K = 10
WAYS = (("flat", 5.0), ("flat", 0.0), ("pgvector", 0.0), ("pgvector-hnsw", 0.0))
VISIBLE = 50


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def timed(act: Callable[[int], object], times: int) -> str:
    found = []
    for number in range(times):
        began = time.perf_counter()
        act(number)
        found.append(1e3 * (time.perf_counter() - began))
    return f"min {min(found):.2f}, p50 {np.median(found):.2f}, p95 {np.percentile(found, 95):.2f} ms"


def start_server() -> PostgresServer:
    for binaries in filter(None, (find_binaries(), find_bundled_binaries())):
        server = PostgresServer(binaries)
        if server.offers_pgvector():
            return server
        server.close()
    raise SystemExit("no PostgreSQL server with pgvector; `make test-postgres` installs one")


def measure(url: str, kind: str, max_lag: float, queries: list[Encoding], expected: list[set[str]]) -> list[set[str]]:
    """Print the times of one kind of index; return the ids that it finds."""
    with EditMemory(url, index=kind, max_lag=max_lag) as memory:
        assert memory.encoder
        began = time.perf_counter()
        memory.candidates(queries[:1], k=K)
        say(f"{kind}, max_lag {max_lag:g}: first look-up {time.perf_counter() - began:.2f} s")
        found = [{c.edit.id for c in row} for row in memory.candidates(queries, k=K)]
        if expected:
            shares = [len(a & b) / len(a) for a, b in zip(expected, found, strict=True)]
            say(f"  recall@{K} against the first: {np.mean(shares):.4f} of {len(queries)} queries")
        time.sleep(0.5)  # the watcher has come to know the revision
        for batch, times in ((1, 200), (8, 30), (64, 6)):
            parts = [queries[i * batch % 192 : i * batch % 192 + batch] for i in range(times)]
            say(f"  look-up of {batch}: {timed(lambda i, parts=parts: memory.candidates(parts[i], k=K), times)}")
        with memory._database.read() as connection:
            index = memory._search.space("default").searcher(lambda: connection)
            vectors = np.stack([query.vector for query in queries])
            say(f"  search alone: {timed(lambda i: index.search(vectors[i : i + 1], 2 * K), 200)}")
        return found


def measure_visibility(url: str) -> None:
    """Print how many of an other memory's additions the next look-up finds."""
    with EditMemory(url, index="pgvector", max_lag=5.0) as reader, EditMemory(url) as writer:
        seen = 0
        for number in range(VISIBLE):
            text = f"Who paints tower {number}?"
            edit = writer.add(text, f"painter {number}")
            seen += any(c.edit.id == edit.id for c in reader.candidates(reader.encoder.encode_tokens([text]))[0])
    say(f"found by the first look-up after they were added elsewhere: {seen} of {VISIBLE}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    corpus = make_corpus(count, encoder=load_encoder("minilm"), encoded=2_000, queries=300)
    queries = [
        Encoding(f"query {i}", vector, np.zeros((1, len(vector)), dtype=np.float32), ((0, 5),))
        for i, vector in enumerate(corpus.queries)
    ]
    server = start_server()
    try:
        say(server.run_sql("SHOW server_version"))
        with EditMemory(server.url()) as memory:
            drafts = [{"prompt": f"Who is {i}?", "target": "x", "subject": f"subject no {i} zz"} for i in range(count)]
            memory.add_many(drafts, vectors=corpus.vectors, on_conflict="keep")
        expected: list[set[str]] = []
        for kind, max_lag in WAYS:  # the first searches exactly
            found = measure(server.url(), kind, max_lag, queries, expected)
            expected = expected or found
        say("pgvector " + server.run_sql("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
        measure_visibility(server.url())
    finally:
        server.close()


if __name__ == "__main__":
    main()
