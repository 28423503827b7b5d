"""Benchmark of retrieval: latency and recall of an index against exact search over the same vectors."""

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from memedit.bench.vectors import Corpus, make_corpus
from memedit.encoders import Encoder, load_encoder
from memedit.errors import InputError
from memedit.index import create_index
from memedit.index.base import IdArray, VectorIndex
from memedit.index.common import BaseIndex
from memedit.types import FloatArray

Report = Callable[[str], None]
_EXACT_TIMED = 20
_BATCH = 50_000


def run(
    n: int = 1_000_000,
    *,
    kind: str = "ivf",
    k: int = 10,
    queries: int = 1_000,
    encoder: Encoder | str = "minilm",
    encoded: int = 20_000,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Build an index of ``n`` vectors and search it one query at a time on one core.

    The vectors are described in :mod:`memedit.bench.vectors`: encoded sentences extended by a model fitted to
    them; the queries are encoded questions. The reference, searched in the same run over the same vectors, is the exact
    NumPy index.

    Args:
        n: vectors.
        kind: registered name of the index.
        k: results wanted.
        queries: single searches timed, after 50 to warm up.
        encoder: an encoder or its name.
        encoded: vectors that are encoded for real (kept for the next run).
        seed: of the sentences drawn.
        options: of the index.
        report: called with a line at each step.

    Returns:
        A JSON-able dict: ``recall``, ``latency_ms`` (wall clock: mean, p50, p95, p99, max) and ``cpu_ms`` (processor
        time, which other programs on the machine disturb less), ``exact_latency_ms``, ``speedup`` (ratio to the exact
        reference), ``build_s``, ``memory_gb``, ``corpus``, ``setup``.

    Raises:
        InputError: ``n`` is below 1000 or ``k`` below 1.
        ModelNotFoundError: the encoder is not installed.
    """
    if n < 1000 or k < 1 or queries < 1:
        raise InputError(f"n={n}, k={k}, queries={queries}: give at least 1000, 1 and 1")
    say = report or (lambda line: None)
    started = time.perf_counter()
    loaded = load_encoder(encoder) if isinstance(encoder, str) else encoder
    say("encoding sentences and drawing vectors")
    corpus = make_corpus(n, encoder=loaded, encoded=encoded, queries=queries, seed=seed)
    say(f"building the {kind} index of {n:,} vectors")
    with _one_core():
        index, build = _build(create_index(kind, loaded.dimension, **dict(options or {})), corpus.vectors)
        say("timing single searches")
        found, wall, cpu = _search_one_by_one(index, corpus.queries, k)
        reference = create_index("exact", loaded.dimension)
        reference.add(np.arange(n), corpus.vectors)
        say("searching exactly, for reference")
        _, exact_wall, _ = _search_one_by_one(reference, corpus.queries[:_EXACT_TIMED], k)
    expected = reference.search(corpus.queries, k)[1]
    return {
        "benchmark": "retrieval",
        "n": n,
        "dimension": loaded.dimension,
        "kind": kind,
        "options": dict(index.options),
        "k": k,
        "queries": len(corpus.queries),
        "recall": recall(found, expected),
        "latency_ms": _summary(wall),
        "cpu_ms": _summary(cpu),
        "exact_latency_ms": _summary(exact_wall),
        "speedup": float(np.median(exact_wall) / np.median(wall)),
        **build,
        "corpus": _describe(corpus),
        "setup": _setup(loaded, time.perf_counter() - started),
    }


def recall(found: IdArray, expected: IdArray) -> float:
    """Share of the expected ids ``[q, k]`` that were found, over all queries."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), expected.tolist(), strict=True))
    return hits / expected.size


def _build(index: BaseIndex, vectors: FloatArray) -> tuple[BaseIndex, dict[str, float]]:
    before = _resident_gb()
    wall, cpu = time.perf_counter(), time.process_time()
    index.add(np.arange(len(vectors)), vectors)
    return index, {
        "build_s": time.perf_counter() - wall,
        "build_cpu_s": time.process_time() - cpu,
        "memory_gb": _resident_gb() - before,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _search_one_by_one(index: VectorIndex, queries: FloatArray, k: int) -> tuple[IdArray, FloatArray, FloatArray]:
    """Return ids ``[q, k]`` and, for each query, milliseconds of wall clock and of processor time."""
    for i in range(min(50, len(queries))):
        index.search(queries[i : i + 1], k)
    ids = np.empty((len(queries), k), dtype=np.int64)
    wall, cpu = (np.empty(len(queries), dtype=np.float32) for _ in range(2))
    for i in range(len(queries)):
        w, c = time.perf_counter_ns(), time.process_time_ns()
        ids[i] = index.search(queries[i : i + 1], k)[1][0]
        cpu[i], wall[i] = (time.process_time_ns() - c) / 1e6, (time.perf_counter_ns() - w) / 1e6
    return ids, wall, cpu


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep every thread of this process on one core, where the system lets us; the old set comes back."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    tasks = [int(name) for name in os.listdir("/proc/self/task")]
    _pin(tasks, {min(allowed)})
    try:
        yield
    finally:
        _pin([int(name) for name in os.listdir("/proc/self/task")], allowed)


def _pin(tasks: list[int], cores: set[int]) -> None:
    for task in tasks:
        try:
            os.sched_setaffinity(task, cores)
        except ProcessLookupError:
            continue  # the thread has ended


def _resident_gb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def _summary(values: FloatArray) -> dict[str, float]:
    quantiles = {"p50": 50, "p95": 95, "p99": 99}
    return {
        "mean": float(values.mean()),
        **{name: float(np.percentile(values, q)) for name, q in quantiles.items()},
        "max": float(values.max()),
    }


def _describe(corpus: Corpus) -> dict[str, Any]:
    return {
        "encoded": corpus.encoded,
        "drawn": len(corpus.vectors) - corpus.encoded,
        "variance_explained_by_factors": corpus.explained,
        "queries": "encoded questions asking for encoded statements in other words",
    }


def _setup(encoder: Encoder, seconds: float) -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "encoder": encoder.name,
        "machine": platform.machine(),
        "cores_used": 1,
        "load_average": load,
        "total_s": seconds,
    }
