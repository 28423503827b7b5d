"""Explaining scope decisions without a language model, and calibrating thresholds."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from memedit.errors import DatasetError
from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.runtime.calibrated import keep_threshold, open_scope
from memedit.scope import Calibration, LabelledQuery, Scope, calibrate
from memedit.types import ChainPolicy, ScopeDecision
from memedit.workflows.open import CANDIDATES

__all__ = ["calibrate_scope", "explain", "open_scope"]

_BATCH = 64


def explain(
    memory: EditMemory, scope: Scope, queries: Sequence[str], *, k: int = CANDIDATES, chains: ChainPolicy = "off"
) -> list[ScopeDecision]:
    """Return the decision on each query, made as for an answer: which edits would fire, and what was considered.

    Args:
        memory: where edits are looked up.
        scope: judges them.
        queries: the questions.
        k: vector neighbours looked up for each.
        chains: the policy of look-up along chains of edits.
    """
    return Router(memory, scope, k=k, chains=chains).decide(queries)


def calibrate_scope(
    memory: EditMemory,
    scope: Scope,
    path: Path,
    *,
    max_false_fire: float = 0.005,
    save: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Choose the threshold of a scope from a file of labelled queries; with ``save`` keep it in the memory.

    Each row of the JSONL file is ``{"query": text, "edits": [...]}``, where the list names the edits the query falls
    under, by id or by their own prompt; an empty list marks a query that must stay untouched.

    Raises:
        DatasetError: a row is not of this form or names an edit that is not in the memory.
        InputError: there is no out-of-scope example.
    """
    rows = list(_rows(path, _names(memory)))
    examples: list[LabelledQuery] = []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        encodings = memory.encoder.encode_tokens([query for query, _ in part])
        found = memory.candidates(encodings, k=CANDIDATES)
        for (_, edits), encoding, candidates in zip(part, encodings, found, strict=True):
            examples.append(LabelledQuery(encoding, tuple(candidates), edits))
        if progress is not None:
            progress(len(examples), len(rows))
    result = calibrate(scope, examples, max_false_fire=max_false_fire)
    if save:
        keep_threshold(memory, scope, result.threshold)
    return result


def _names(memory: EditMemory) -> dict[str, str]:
    """Map ids and prompts of the edits in force to ids."""
    edits = memory.list()
    return {edit.prompt: edit.id for edit in edits} | {edit.id: edit.id for edit in edits}


def _rows(path: Path, names: dict[str, str]) -> Iterator[tuple[str, frozenset[str]]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _row(line, path, number, names)


def _row(line: str, path: Path, number: int, names: dict[str, str]) -> tuple[str, frozenset[str]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DatasetError(f"not JSON: {error}", path=str(path), line=number) from error
    query = row.get("query") if isinstance(row, dict) else None
    if not isinstance(query, str) or not query.strip():
        raise DatasetError('expected {"query": text, "edits": [...]}', path=str(path), line=number, field="query")
    edits = row.get("edits")
    if not isinstance(edits, list):
        raise DatasetError(
            "expected a list of ids or prompts, empty for none", path=str(path), line=number, field="edits"
        )
    unknown = [edit for edit in edits if edit not in names]
    if unknown:
        raise DatasetError(f"no edit in force has the id or prompt {unknown[0]!r}", path=str(path), line=number)
    return query, frozenset(names[edit] for edit in edits)
