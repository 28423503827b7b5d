"""The scope laboratory: scopes scored on data sets, without a language model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.evaluation.datasets import DataFile, file_sha256, read_cases
from memedit.evaluation.report.scope_page import scope_page
from memedit.evaluation.results import write_json
from memedit.evaluation.scope_lab import HITS, REJECTS, ScopeScores, pooled, summary
from memedit.evaluation.stream import AskedProbe, StreamOrder, sample_queries
from memedit.scope import Scope, default_scope, load_scope
from memedit.types import ScopeDecision
from memedit.whole_files import write_text
from memedit.workflows.evaluate.runs import held_out_of
from memedit.workflows.evaluate.stage import FilledMemory, fill_memory

_BATCH = 64
ProgressCallback = Callable[[int, int], None]


def run_laboratory(
    files: Sequence[DataFile],
    scopes: Sequence[str],
    out: Path,
    *,
    edits: int | None = None,
    queries: int | None = None,
    seed: int = 0,
    held_out: bool = False,
    encoder: str | Encoder = "minilm",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Score every query of every data set by every scope; write ``scope.json`` and ``scope.html`` into ``out``.

    Args:
        files: data files.
        scopes: registered names; "default" stands for the scope that is the default with this encoder.
        out: folder of the report; made when absent.
        edits: so many edits from the start of each file; None takes all.
        queries: so many cases are drawn to be asked about; None asks all.
        seed: seed of the draw.
        held_out: ask only about rows that the shipped weights were not trained on.
        encoder: sentence encoder, or its name.
        progress: called with (queries scored, queries in all) as each data set goes on.

    Returns:
        The document of ``scope.json``: ``{"rows": [...]}``, a row for each data set and scope, and for all together.

    Raises:
        DatasetError: a data file is wrong.
        UnknownNameError: no such scope.
        InputError: no data, no scope, or nothing left to ask.
    """
    if not files or not scopes:
        raise InputError(f"{len(files)} data files and {len(scopes)} scopes are named; give at least one of each")
    used = load_encoder(encoder) if isinstance(encoder, str) else encoder
    names = dict.fromkeys(default_scope(used) if name == "default" else name for name in scopes)
    made = [load_scope(name, used) for name in names]
    found: list[ScopeScores] = []
    for data in files:
        cases = list(read_cases(data.path, data.format, limit=edits))
        filled = fill_memory(cases, StreamOrder(), used)
        try:
            asked = sample_queries(
                cases, filled.state(), count=queries, seed=seed, keep=held_out_of(data.format) if held_out else None
            )
            found += _score(data.name, list(asked.probes), filled, made, progress)
        finally:
            filled.memory.close()
    rows = [summary(scores) for scores in found]
    if len(files) > 1:
        rows += [summary(pooled([s for s in found if s.scope == scope.name])) for scope in made]
    laboratory = {
        "rows": rows,
        "seed": seed,
        "held_out": held_out,
        "encoder": used.fingerprint,
        "scopes": {scope.name: scope.fingerprint for scope in made},
        "data": [
            {"name": d.name, "file": d.path.name, "format": d.format, "sha256": file_sha256(d.path)} for d in files
        ],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "scope.json", laboratory)
    write_text(out / "scope.html", scope_page(laboratory))
    return laboratory


def _score(
    dataset: str,
    probes: Sequence[AskedProbe],
    filled: FilledMemory,
    scopes: Sequence[Scope],
    progress: ProgressCallback | None,
) -> list[ScopeScores]:
    chosen = [p for p in probes if p.probe.kind in HITS or (p.probe.kind in REJECTS and not p.touched)]
    chosen.sort(key=lambda p: len(p.probe.prompt))
    places = filled.places()
    groups: list[dict[str, list[float]]] = [{} for _ in scopes]
    detected: list[dict[str, list[float]]] = [{} for _ in scopes]
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        encodings = filled.memory.encoder.encode_tokens([p.probe.prompt for p in batch])
        candidates = filled.memory.candidates(encodings)
        for scope, by_group, best in zip(scopes, groups, detected, strict=True):
            for asked, decision in zip(batch, scope.decide(encodings, candidates, threshold=0.0), strict=True):
                group, score = _scored(asked, decision, places)
                by_group.setdefault(group, []).append(score)
                best.setdefault(group, []).append(_best(decision))
        if progress is not None:
            progress(start + len(batch), len(chosen))
    return [
        ScopeScores(dataset, scope.name, scope.threshold, len(filled.ids), by_group, best)
        for scope, by_group, best in zip(scopes, groups, detected, strict=True)
    ]


def _scored(asked: AskedProbe, decision: ScopeDecision, places: dict[str, int]) -> tuple[str, float]:
    """Return the group and the score of a query; at threshold 0 every edit that wins its query has fired."""
    kind = asked.probe.kind
    if kind in HITS:
        return HITS[kind], max((h.score for h in decision.fired if places.get(h.edit.id) in asked.own), default=-1.0)
    return REJECTS[kind], _best(decision)


def _best(decision: ScopeDecision) -> float:
    return max((hit.score for hit in decision.fired), default=-1.0)
