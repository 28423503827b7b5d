"""How fast edits go into a durable memory, against what the sentence encoder alone can do."""

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memedit.encoders import Encoder, load_encoder
from memedit.encoders.base import Progress
from memedit.memory import EditMemory
from memedit.memory.formats import read_drafts
from memedit.types import EditDraft, FloatArray

_RELATIONS = (
    "The mother tongue of {} is",
    "{} was born in the city of",
    "Which company does {} work for?",
    "{} plays the instrument",
    "The headquarters of {} can be found in",
    "{} is a citizen of",
    "What is the field of work of {}? It is",
    "The twin town of {} is",
)
_SYLLABLES = ("an", "bel", "cor", "dra", "el", "fin", "gar", "hol", "is", "kal", "lin", "mar", "nov", "or", "pel")


def run(
    rows: int = 10_000,
    *,
    encoder: Encoder | str = "minilm",
    source: Path | None = None,
    vector_rows: int = 20_000,
    folder: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time an import from JSONL, encoding included, and one with vectors given; both durable (fsync on commit).

    The reference is the encoder alone on the very texts that the import encodes, timed before and after it in the
    same run, so that a machine that slows down slows both.

    Args:
        rows: edits to import.
        encoder: a sentence encoder or its name.
        source: a file of edits in any known format; made-up facts with unique subjects when absent.
        vector_rows: edits to add with vectors given; 0 leaves this part out.
        folder: where the database goes (a temporary folder on the same device, removed afterwards).
        seed: of the made-up facts and vectors.
        progress: called with (texts encoded, texts to encode) during the import.

    Returns:
        A JSON-able mapping: ``bare_rows_per_s``, ``ingest_rows_per_s`` and their ratio ``of_bare``, and the same
        ratio by processor time, ``of_bare_cpu``, which a busy machine disturbs less;
        ``vector_rows_per_s``, and ``vector_indexed_rows_per_s`` with the vector index brought up to date too.
    """
    engine = load_encoder(encoder) if isinstance(encoder, str) else encoder
    with tempfile.TemporaryDirectory(dir=folder, prefix="memedit-bench-") as name:
        place = Path(name)
        path = _file(place / "edits.jsonl", source, rows, seed)
        drafts = read_drafts(path, "auto").drafts
        texts = [draft.prompt for draft in drafts]
        engine.encode(texts[:256])  # the first call pays for warming up
        before = _timed(lambda: engine.encode(texts))
        ingest = _timed(lambda: _import(place / "edits.db", path, engine, progress))
        after = _timed(lambda: engine.encode(texts))
        bare = (before.wall + after.wall) / 2
        report: dict[str, Any] = {
            "rows": len(drafts),
            "encoder": engine.name,
            "bare_rows_per_s": round(len(drafts) / bare, 1),
            "bare_passes_s": [round(before.wall, 6), round(after.wall, 6)],
            "ingest_rows_per_s": round(len(drafts) / ingest.wall, 1),
            "ingest_s": round(ingest.wall, 6),
            "of_bare": round(bare / ingest.wall, 4),
            "of_bare_cpu": round((before.cpu + after.cpu) / 2 / ingest.cpu, 4),
        }
        if vector_rows:
            report |= _with_vectors(place / "vectors.db", engine, vector_rows, seed)
    return report


class _Seconds(NamedTuple):
    """Seconds by the clock, and of the processor in all threads."""

    wall: float
    cpu: float


def _timed(work: Callable[[], object]) -> _Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return _Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def _import(place: Path, path: Path, encoder: Encoder, progress: Progress | None) -> None:
    """Open a new memory and import the file."""
    with EditMemory(place, encoder=encoder) as memory:
        memory.import_file(path, on_conflict="supersede", progress=progress)


def _with_vectors(place: Path, encoder: Encoder, rows: int, seed: int) -> dict[str, Any]:
    """Add made-up facts with random unit vectors, then look one up, which brings the index up to date."""
    drafts = list(_facts(rows, seed + 1))
    vectors = np.random.default_rng(seed).standard_normal((rows, encoder.dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = encoder.encode_tokens([drafts[0].prompt])
    unit: FloatArray = vectors
    with EditMemory(place, encoder=encoder) as memory:
        started = time.perf_counter()
        memory.add_many(drafts, vectors=unit)
        stored = time.perf_counter() - started
        memory.candidates(query)
        indexed = time.perf_counter() - started
    return {
        "vector_rows": rows,
        "vector_rows_per_s": round(rows / stored, 1),
        "vector_indexed_rows_per_s": round(rows / indexed, 1),
    }


def _file(path: Path, source: Path | None, rows: int, seed: int) -> Path:
    """The file to import: the first ``rows`` edits of ``source``, or made-up ones."""
    facts = _facts(rows, seed) if source is None else read_drafts(source, "auto").drafts[:rows]
    lines = ({"prompt": fact.prompt, "target": fact.target, "subject": fact.subject} for fact in facts)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def _facts(rows: int, seed: int) -> Iterator[EditDraft]:
    """Made-up facts, each about a subject of its own."""
    rng = random.Random(seed)
    for i in range(rows):
        words = ("".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).title() for _ in range(rng.randint(1, 3)))
        subject = f"{' '.join(words)} {i}"
        target = "".join(rng.choices(_SYLLABLES, k=2)).title()
        yield EditDraft(rng.choice(_RELATIONS).format(subject), target, subject=subject)
