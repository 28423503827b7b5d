"""One step of the benchmark of a large memory, in a process of its own: its memory and start-up are its own too.

Run as ``python -m memedit.bench.memory_steps``: reads a task as JSON on stdin, writes figures as JSON on stdout.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.errors import MemeditError
from memedit.index.words import folded_words

if TYPE_CHECKING:
    from memedit.types import Edit

_UNIT = 1024 if sys.platform != "darwin" else 1
"""Bytes in which the system counts resident memory."""
_BEGAN = time.time()
K = 8
"""Vector neighbours looked up for a query."""


def in_process(step: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Run a step in a new process and return its figures.

    Raises:
        MemeditError: it failed; shows what it said.
    """
    words = json.dumps({**task, "step": step, "started": time.time()})
    command = [sys.executable, "-m", "memedit.bench.memory_steps"]
    done = subprocess.run(command, input=words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MemeditError(f"the step {step!r} of the benchmark failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def load(task: Mapping[str, Any]) -> dict[str, Any]:
    """Import a file of edits, and keep what the scope prepares for each."""
    from memedit.memory import EditMemory, MaskedPromptScorer
    from memedit.runtime.artefacts import Artefacts
    from memedit.scope import PreparesEdits, load_scope

    clock = _Clock()
    scorer = MaskedPromptScorer() if task["conflicts"] == "masked" else None
    with EditMemory(task["memory"], encoder=task["encoder"], index=task["index"], conflict_scorer=scorer) as memory:
        memory.encoder.encode(["the first call pays for warming up"])
        scope = load_scope(task["scope"], memory.encoder)
        clock.lap("loading_s")
        report = memory.import_file(task["file"], format="jsonl", on_conflict="supersede")
        spent, used = clock.lap("import_s"), clock.cpu
        if isinstance(scope, PreparesEdits):
            Artefacts(memory, None).store(scope)
        clock.lap("prepare_s")
        memory.save_index()
        clock.lap("index_s")
    return {
        "rows": len(report.ids),
        "ids": list(report.ids[: task["asked"]]),
        "added": len(report.added),
        "superseded": len(report.superseded),
        "doubtful": len(report.doubtful),
        "rows_per_s": round(len(report.ids) / spent, 1),
        "rows_per_cpu_s": round(len(report.ids) / used["import_s"], 1),
        **clock.seconds,
        "prepare_cpu_s": round(clock.cpu["prepare_s"], 1),
        "peak_rss_mb": peak_mb(),
    }


def look_up(task: Mapping[str, Any]) -> dict[str, Any]:
    """Open the memory and ask one query after another: what fires, how long it takes, how much memory it needs."""
    from memedit.bench.common import percentiles
    from memedit.memory import EditMemory
    from memedit.runtime import Router
    from memedit.scope import load_scope
    from memedit.types import EditState

    clock = _Clock(task["started"])
    clock.lap("modules_s")
    with EditMemory(task["memory"], encoder=task["encoder"], index=task["index"], read_only=True) as memory:
        first = memory.encoder.encode_tokens(["Who may enter the reading room?"])
        clock.lap("encoder_s")
        memory.candidates(first, k=K)
        clock.lap("memory_s")
        router = Router(memory, load_scope(task["scope"], memory.encoder), k=K)
        router.decide([first[0].text])
        clock.lap("scope_s")
        known = memory.known([row["id"] for row in task["queries"] if row["id"]])
        standing = {edit.id: edit for edit in known if edit.state is EditState.ACTIVE}
        asked = [row for row in task["queries"] if row["id"] is None or row["id"] in standing]
        fired: list[list[str]] = []
        whole = _Timer()
        for row in asked:
            with whole:
                (decision,) = router.decide([row["text"]])
            own = standing.get(row["id"])
            # two rows of published data may be one fact: an edit that says the same is as good
            fired.append([own.id if own and _same(hit.edit, own) else hit.edit.id for hit in decision.fired])
        encoding, searching = _Timer(), _Timer()
        for row in asked:
            with encoding:
                vectors = memory.encoder.encode_tokens([row["text"]])
            with searching:
                memory.candidates(vectors, k=K)
        return {
            "start_up_s": round(sum(clock.seconds.values()), 3),
            "start_up_cpu_s": round(sum(clock.cpu.values()), 3),
            "start_up": clock.seconds,
            "start_up_cpu": {name: round(seconds, 3) for name, seconds in clock.cpu.items()},
            "with_scope_ms": percentiles(whole.wall),
            "with_scope_cpu_ms": percentiles(whole.cpu),
            "encode_cpu_ms": percentiles(encoding.cpu),
            "search_ms": percentiles(searching.wall),
            "search_cpu_ms": percentiles(searching.cpu),
            "without_scope_cpu_ms": percentiles(
                [one + other for one, other in zip(encoding.cpu, searching.cpu, strict=True)]
            ),
            "asked": [{**row, "fired": ids} for row, ids in zip(asked, fired, strict=True)],
            "rss_mb": _resident(),
            "peak_rss_mb": peak_mb(),
        }


def maintain(task: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuild the index and give unused space back."""
    from memedit.memory import EditMemory

    with EditMemory(task["memory"], encoder=task["encoder"], index=task["index"]) as memory:
        memory.encoder.encode(["the first call pays for warming up"])
        clock = _Clock()
        rows = memory.rebuild()
        clock.lap("rebuild_s")
        memory.vacuum()
        clock.lap("vacuum_s")
    cpu = {f"{name[:-2]}_cpu_s": round(seconds, 3) for name, seconds in clock.cpu.items()}
    return {"index_rows": rows, **clock.seconds, **cpu, "peak_rss_mb": peak_mb()}


def _same(one: "Edit", other: "Edit") -> bool:
    return folded_words(one.target) == folded_words(other.target) and folded_words(one.subject or "") == folded_words(
        other.subject or ""
    )


class _Clock:
    """Seconds of steps that follow each other: by the clock and, under ``cpu``, of the processor."""

    def __init__(self, started: float | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._at, self._cpu = time.time(), time.process_time()
        if started is not None:
            self._at = started
            if started <= _BEGAN:
                self._cpu = 0.0  # all of it belongs to the process that was started for this

    def lap(self, name: str) -> float:
        """Note what has passed since the last one."""
        now, used = time.time(), time.process_time()
        self.seconds[name], self.cpu[name] = round(now - self._at, 3), used - self._cpu
        self._at, self._cpu = now, used
        return self.seconds[name]


class _Timer:
    """Seconds of a call, again and again: by the clock, and of the processor."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_error: object) -> None:
        wall, cpu = self._began
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def peak_mb() -> int:
    """Return the most memory, in MiB, that this process has held so far."""
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 2**20)


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_mb()
    return pages * resource.getpagesize() >> 20


STEPS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "load": load,
    "look_up": look_up,
    "maintain": maintain,
}


def main(arguments: Sequence[str] = ()) -> None:
    """Run the task on stdin."""
    task = json.load(sys.stdin)
    sys.stdout.write(json.dumps(STEPS[task["step"]](task)) + "\n")


if __name__ == "__main__":
    main()
