"""Scopes on files of edits and asks: what fires, what stays silent, how far scores are probabilities."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder
from memedit.evaluation.asks import Ask, AskedEdits, read_asks
from memedit.evaluation.metrics.statistics import rate
from memedit.evaluation.report.asks_page import asks_page
from memedit.evaluation.results import write_json
from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.runtime.asked import asked_of
from memedit.scope import Scope, load_scope
from memedit.types import ScopeDecision
from memedit.whole_files import write_text

_BATCH = 16
_WORST = 50
_BINS = 10


@dataclass(frozen=True, slots=True)
class JudgedAsk:
    """An ask with what came of it.

    ``right``: a wanted edit fires, or none does where none may. ``wrong``: an edit fires that is not wanted. ``own``
    and ``other`` are the best scores of a wanted edit and of any other (0 where none is near).
    """

    file: str
    kind: str
    text: str
    wanted: str
    fired: str
    right: bool
    wrong: bool
    own: float
    other: float
    expects: bool


def run_asks(
    files: Sequence[Path],
    out: Path,
    *,
    scope: str = "default",
    limit: int | None = None,
    seed: int = 0,
    encoder: str | Encoder = "minilm",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Ask every file's questions of a memory that holds the file's edits; write ``asks.json`` and ``asks.html``.

    Args:
        files: asks, talks, or families of the relation inventory.
        out: folder of the report; made when absent.
        scope: registered name.
        limit: so many asks of each file are drawn; None asks all.
        seed: of the draws.
        encoder: sentence encoder, or its name.
        progress: called with (asks judged, asks in all).

    Raises:
        DatasetError: a file is wrong.
    """
    used = load_encoder(encoder) if isinstance(encoder, str) else encoder
    made = load_scope(scope, used)
    read = {path: _drawn(read_asks(path, seed=seed), limit, seed) for path in files}
    everything, judged = sum(len(asked.asks) for asked in read.values()), []
    for path, asked in read.items():
        for item in _judge(path.stem, asked, made, used):
            judged.append(item)
            if progress is not None:
                progress(len(judged), everything)
    report = {
        "scope": made.name,
        "fingerprint": made.fingerprint,
        "threshold": made.threshold,
        "files": [path.name for path in files],
        "rows": _rows(judged),
        "reliability": _reliability(judged),
        "worst": [asdict(item) for item in _worst(judged)],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "asks.json", report)
    write_text(out / "asks.html", asks_page(report))
    return report


def _drawn(asked: AskedEdits, limit: int | None, seed: int) -> AskedEdits:
    if limit is None or len(asked.asks) <= limit:
        return asked
    return AskedEdits(asked.edits, tuple(random.Random(seed).sample(asked.asks, limit)))


def _judge(file: str, asked: AskedEdits, scope: Scope, encoder: Encoder) -> list[JudgedAsk]:
    with EditMemory(":memory:", encoder=encoder) as memory:
        numbers: dict[str, list[int]] = {}
        for number, edit_id in enumerate(memory.add_many(asked.edits, on_conflict="keep").ids):
            numbers.setdefault(edit_id, []).append(number)
        router = Router(memory, scope)
        found = []
        for at in range(0, len(asked.asks), _BATCH):
            part = asked.asks[at : at + _BATCH]
            decisions = router.decide([asked_of(ask.query) for ask in part])
            found += [_judged(file, ask, d, asked, numbers) for ask, d in zip(part, decisions, strict=True)]
        return found


def _judged(
    file: str, ask: Ask, decision: ScopeDecision, asked: AskedEdits, numbers: dict[str, list[int]]
) -> JudgedAsk:
    wanted = set(ask.wanted)
    own = [hit for hit in decision.considered if wanted & set(numbers[hit.edit.id])]
    others = [hit for hit in decision.considered if not wanted & set(numbers[hit.edit.id])]
    fired = [bool(wanted & set(numbers[hit.edit.id])) for hit in decision.fired]
    return JudgedAsk(
        file=file,
        kind=ask.kind,
        text=ask.query if isinstance(ask.query, str) else " || ".join(turn["content"] for turn in ask.query),
        wanted="; ".join(f"{asked.edits[i].prompt} = {asked.edits[i].target}" for i in ask.wanted),
        fired="; ".join(f"{hit.edit.prompt} = {hit.edit.target}" for hit in decision.fired),
        right=any(fired) if wanted else not fired,
        wrong=not all(fired),
        own=max((hit.score for hit in own), default=0.0),
        other=max((hit.score for hit in others), default=0.0),
        expects=bool(wanted),
    )


def _rows(judged: Sequence[JudgedAsk]) -> list[dict[str, Any]]:
    """Return, for each kind, how often what should happen happens, and how often an edit fires that must not."""
    kinds: dict[str, list[JudgedAsk]] = {}
    for item in judged:
        kinds.setdefault(item.kind, []).append(item)
        kinds.setdefault("all that must fire" if item.expects else "all that must stay silent", []).append(item)
    return [
        {
            "kind": kind,
            "right": rate([item.right for item in items]).as_json(),
            "another_fires": rate([item.wrong for item in items]).as_json(),
        }
        for kind, items in sorted(kinds.items())
    ]


def _reliability(judged: Sequence[JudgedAsk]) -> list[dict[str, float]]:
    """Return, for bins of the score, how many pairs of ask and edit fall there and what share of them is right."""
    pairs = [(item.own, True) for item in judged if item.expects and item.own > 0]
    pairs += [(item.other, False) for item in judged if item.other > 0]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for score, right in pairs:
        bins[min(_BINS - 1, int(score * _BINS))].append((score, right))
    return [
        {
            "score": sum(score for score, _ in found) / len(found),
            "right": 100.0 * sum(right for _, right in found) / len(found),
            "n": len(found),
        }
        for found in bins
        if found
    ]


def _worst(judged: Sequence[JudgedAsk]) -> list[JudgedAsk]:
    """Return the asks that went wrong, those first whose scores were furthest from right."""
    failed = [item for item in judged if item.wrong or not item.right]
    failed.sort(
        key=lambda item: min(item.own if item.expects and not item.right else 1.0, 1.0 - item.other * item.wrong)
    )
    return failed[:_WORST]
