"""What a run has done so far, so that a killed run goes on where it stopped."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from memedit.errors import InputError
from memedit.evaluation.records import Result, from_json, to_json


@dataclass(frozen=True, slots=True)
class DoneBatch:
    """The results of one batch in request order within the batch, and the seconds it took."""

    results: tuple[Result, ...]
    seconds: float


class Journal:
    """An append-only JSON Lines file of finished batches and named facts; each line is on disk before the run goes on.

    A line that a kill cut off is dropped when the journal is opened again. The file belongs to one run: it starts with
    that run's key, and a journal with another key is refused.

    Args:
        path: the file; made when absent.
        key: hash of everything the run's results depend on.

    Raises:
        InputError: the file is the journal of another run or is damaged before its last line.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._batches: dict[tuple[str, int], DoneBatch] = {}
        self._facts: dict[str, Any] = {}
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        good = self._read(path, key) if path.exists() else 0
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(good)
        self._file.seek(good)
        if good == 0:
            self._append({"run": key})

    def batch(self, unit: str, index: int) -> DoneBatch | None:
        """Return a finished batch of a unit of work, None when it has not been done."""
        return self._batches.get((unit, index))

    def add_batch(self, unit: str, index: int, results: Sequence[Result], seconds: float) -> None:
        """Write a finished batch down."""
        self._batches[unit, index] = DoneBatch(tuple(results), seconds)
        rows = [to_json(result) for result in results]
        self._append({"unit": unit, "batch": index, "seconds": seconds, "results": rows})

    def fact(self, name: str) -> Any:
        """Return a named fact (a timing, say), None when it is not there."""
        return self._facts.get(name)

    def add_fact(self, name: str, value: Any) -> None:
        """Write a named fact down; ``value`` is JSON."""
        self._facts[name] = value
        self._append({"fact": name, "value": value})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, path: Path, key: str) -> int:
        """Take over what the file holds; return how many bytes of it are whole lines."""
        good = 0
        with path.open("rb") as source:
            for number, line in enumerate(source, start=1):
                if not line.endswith(b"\n"):
                    break
                self._take(line, number, path, key)
                good += len(line)
        return good

    def _take(self, line: bytes, number: int, path: Path, key: str) -> None:
        try:
            entry = json.loads(line)
            if number == 1:
                if entry.get("run") != key:
                    raise InputError(f"{path.name} is the journal of another run; give another --out, or delete it")
            elif "unit" in entry:
                results = tuple(from_json(row) for row in entry["results"])
                self._batches[str(entry["unit"]), int(entry["batch"])] = DoneBatch(results, float(entry["seconds"]))
            else:
                self._facts[str(entry["fact"])] = entry["value"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError) and "another run" in str(error):
                raise
            raise InputError(
                f"{path.name}, line {number}: damaged; delete the file to start the run anew ({error})"
            ) from error
