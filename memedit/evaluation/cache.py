"""Outputs of untouched base models on disk, so that no run computes them twice."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memedit.errors import StoreCorruptError
from memedit.evaluation.records import Result, from_json, to_json
from memedit.evaluation.requests import GenerateRequest, SampleRequest, ScoreRequest

Request = GenerateRequest | SampleRequest | ScoreRequest


def default_cache_path() -> Path:
    """Return where base outputs are kept: under ``$MEMEDIT_HOME``, else under the user's cache folder."""
    home = os.environ.get("MEMEDIT_HOME")
    folder = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "memedit"
    return folder / "evaluation" / "base-outputs.sqlite"


def output_key(request: Request, scenery: Mapping[str, Any]) -> str:
    """Return the key of one output: a hash of the request and of everything else the output depends on."""
    whole = {"request": [type(request).__name__, *(getattr(request, f) for f in request.__slots__)], **scenery}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


class OutputCache:
    """Results by key in a SQLite file, with the seconds each took. Several processes may use it at once.

    Args:
        path: the file; made when absent. ":memory:" keeps nothing.
        scenery: what every output depends on besides its request: the answerer's fingerprint, dtype, library versions.

    Raises:
        StoreCorruptError: the file is damaged or not a cache of base outputs.
    """

    def __init__(self, path: Path | str, scenery: Mapping[str, Any]) -> None:
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._scenery = dict(scenery)
        try:
            self._db = sqlite3.connect(path, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS outputs (key TEXT PRIMARY KEY, result TEXT, seconds REAL)")
        except sqlite3.DatabaseError as error:
            message = f"{Path(path).name} is not a cache of base outputs ({error}); delete it, it is made again"
            raise StoreCorruptError(message) from error

    def get(self, requests: Sequence[Request]) -> list[tuple[Result, float] | None]:
        """Return result and seconds of each request, None where it is not there."""
        found: list[tuple[Result, float] | None] = []
        for request in requests:
            key = output_key(request, self._scenery)
            row = self._db.execute("SELECT result, seconds FROM outputs WHERE key = ?", (key,)).fetchone()
            found.append((from_json(json.loads(row[0])), float(row[1])) if row else None)
        return found

    def put(self, requests: Sequence[Request], results: Sequence[Result], seconds: float) -> None:
        """Keep the results of one batch that took ``seconds`` in all.

        The latest batch wins, so that the same run finds its own outputs again.
        """
        share = seconds / max(1, len(requests))
        rows = [
            (output_key(request, self._scenery), json.dumps(to_json(result)), share)
            for request, result in zip(requests, results, strict=True)
        ]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
