"""A memory that grows: import, start-up, look-up, what fires, resident memory and upkeep at several sizes."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from memedit.bench.memory_rows import Filling, make_filling
from memedit.bench.memory_steps import STEPS, in_process
from memedit.encoders import Encoder
from memedit.errors import InputError
from memedit.evaluation.datasets import DataFile, file_sha256
from memedit.evaluation.metrics.statistics import rate
from memedit.types import EditDraft

Report = Callable[[str], None]
_DONE = "figures.json"


def run(
    files: Sequence[DataFile],
    *,
    edits: Sequence[int] = (1_000, 10_000),
    queries: int = 100,
    encoder: Encoder | str = "minilm",
    scope: str = "default",
    index: str = "flat",
    conflicts: str = "scope",
    folder: Path | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> dict[str, Any]:
    """Fill a memory to each size in turn and measure it there, every step in a process of its own.

    A size begins with the file of the one before it; what is imported is the rest. Of contradicting edits the later
    one stays, as an import by ``--on-conflict supersede`` has it; a query whose edit was superseded is not asked.

    Args:
        files: published data whose held-out rows are asked about, see :func:`~memedit.bench.memory_rows.make_filling`.
        edits: sizes.
        queries: rows asked about of each file.
        encoder: a sentence encoder's name; ``scope`` and ``index`` are registered names too. With an encoder itself all
            steps run in this process, so that start-up and resident memory are not a new process's.
        scope: see ``encoder``.
        index: see ``encoder``.
        conflicts: who judges at the import what contradicts what: "scope" (the default of a memory) or "masked"
            (:class:`~memedit.memory.MaskedPromptScorer`), which takes a third of the time where subjects have many
            edits.
        folder: where the memories lie, and stay: a size that is there, made of the same rows, is not imported again.
            None is a temporary folder.
        seed: of the rows drawn and generated.
        report: called with a line at each step.

    Returns:
        A JSON-able dict with a row for each size: ``import`` and its rate, ``start_up_s`` of a new process until its
        first answer, ``with_scope_ms`` and ``without_scope_cpu_ms`` of single queries (by the clock, and of the
        processor, which other programs disturb less), shares in percent with intervals (``right``: the right edit
        fired first; ``wrong``: another one did; ``silent``: none on unrelated queries), resident memory, bytes on
        disk, and the time to rebuild the index and to give space back.

    Raises:
        InputError: a size is below the rows asked about, or a file has no held-out rows.
        MemeditError: a step failed.
    """
    say = report or (lambda line: None)
    sizes = sorted(set(edits))
    if not sizes or not files:
        raise InputError("give at least one size, and one data file to ask about")
    if conflicts not in {"scope", "masked"}:
        raise InputError(f"conflicts={conflicts!r} is neither 'scope' nor 'masked'")
    say("laying out edits and queries")
    filling = make_filling(files, sizes[-1], queries=queries, seed=seed)
    if len(filling.edits) < sizes[-1]:
        raise InputError(f"there are {len(filling.edits):,} different edits, not {sizes[-1]:,}")
    setup = {"encoder": encoder, "scope": scope, "index": index, "conflicts": conflicts}
    named = {**setup, "encoder": encoder if isinstance(encoder, str) else encoder.name}
    key = {**named, "seed": seed, "queries": queries, "data": [file_sha256(file.path) for file in files]}
    with _place(folder) as place:
        rows = [
            _Size(place, filling, (before, size), setup=setup, key=key).measure(say)
            for before, size in pairwise([0, *sizes])
        ]
    return {"benchmark": "memory", **named, "seed": seed, "rows": rows}


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="memedit-bench-") as name:
        yield Path(name)


class _Size:
    """The memory of one size: made of the one before it, which has fewer edits (0: none)."""

    def __init__(
        self,
        place: Path,
        filling: Filling,
        sizes: tuple[int, int],
        *,
        setup: Mapping[str, Any],
        key: Mapping[str, Any],
    ) -> None:
        before, size = sizes
        self._folder, self._earlier = place / str(size), place / str(before)
        self._before, self._size, self._filling = before, size, filling
        self._memory = self._folder / "edits.db"
        self._task = {**setup, "memory": str(self._memory)}
        self._key = {**key, "size": size}

    def measure(self, say: Report) -> dict[str, Any]:
        loaded = self._loaded(say)
        say(f"{self._size:,} edits: asking {len(self._filling.asked)} queries")
        ids = loaded.pop("ids")
        asked = [
            {"data": one.data, "text": one.text, "id": None if one.own is None else ids[one.own]}
            for one in self._filling.asked
        ]
        found = self._do("look_up", {**self._task, "queries": asked})
        answers = found.pop("asked")
        figures = {"edits": self._size, "import": loaded, **found, **_shares(answers), "files": self._files()}
        say(f"{self._size:,} edits: rebuilding and compacting")
        return {**figures, "upkeep": self._do("maintain", self._task)}

    def _do(self, step: str, task: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(task["encoder"], str):
            return in_process(step, task)
        return STEPS[step]({**task, "started": time.time()})

    def _loaded(self, say: Report) -> dict[str, Any]:
        """Import what is new at this size, unless that was done before with the same rows."""
        done = self._folder / _DONE
        if done.is_file():
            known = json.loads(done.read_text(encoding="utf-8"))
            if known["key"] == self._key:
                return dict(known["import"])
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._before:
            shutil.copytree(self._earlier, self._folder, ignore=shutil.ignore_patterns("*.index", _DONE))
        else:
            self._folder.mkdir()
        file = self._folder / "new.jsonl"
        _write(file, self._filling.edits[self._before : self._size])
        say(f"{self._size:,} edits: importing {self._size - self._before:,}")
        places = 1 + max((one.own for one in self._filling.asked if one.own is not None), default=-1)
        loaded = self._do("load", {**self._task, "file": str(file), "asked": places})
        file.unlink()
        if self._before:
            loaded["ids"] = json.loads((self._earlier / _DONE).read_text(encoding="utf-8"))["import"]["ids"]
        done.write_text(json.dumps({"key": self._key, "import": loaded}), encoding="utf-8")
        return loaded

    def _files(self) -> dict[str, int]:
        """Bytes on disk: of the database, and of the vector index beside it."""
        folder = self._memory.with_name(self._memory.name + ".index")
        return {
            "database_bytes": sum(path.stat().st_size for path in self._folder.glob("edits.db*") if path.is_file()),
            "index_bytes": sum(path.stat().st_size for path in folder.glob("*") if path.is_file()),
        }


def _write(path: Path, edits: Sequence[EditDraft]) -> None:
    rows = ({"prompt": edit.prompt, "target": edit.target, "subject": edit.subject} for edit in edits)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _shares(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say how often the right edit fired, another one, and none where none may; by data set and over all."""
    found: dict[str, Any] = {}
    for name in [*dict.fromkeys(row["data"] for row in answers), None]:
        mine = [row for row in answers if name in (None, row["data"])]
        own = [row for row in mine if row["id"] is not None]
        none = [row for row in mine if row["id"] is None]
        shares = {}
        if own:
            shares["right"] = rate([row["fired"][:1] == [row["id"]] for row in own]).as_json()
            shares["wrong"] = rate([bool(row["fired"]) and row["fired"][0] != row["id"] for row in own]).as_json()
        if none:
            shares["silent"] = rate([not row["fired"] for row in none]).as_json()
        found["all" if name is None else name] = shares
    return {"fired": found}
