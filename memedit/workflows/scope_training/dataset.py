"""Training examples as flat arrays, kept on disk so that a killed run need not make them again."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from memedit.types import FloatArray
from memedit.whole_files import write_whole
from memedit.workflows.scope_training.examples import Judged

Flat = np.ndarray


@dataclass(frozen=True)
class ExampleSet:
    """N examples: a query beside one candidate each.

    ``features [N, f]``, ``label [N]``, ``query [N]`` and ``row [N]``; token vectors once per query and once per row in
    ``query_tokens [*, p]`` / ``edit_tokens [*, p]`` (float16), from ``query_start`` / ``edit_start``; token features
    per example in ``query_extra [*, 5]`` / ``edit_extra [*, 5]`` (float16), from ``query_extra_start`` /
    ``edit_extra_start [N + 1]``.
    """

    features: FloatArray
    label: Flat
    query: Flat
    row: Flat
    query_tokens: Flat
    query_start: Flat
    edit_tokens: Flat
    edit_start: Flat
    query_extra: Flat
    query_extra_start: Flat
    edit_extra: Flat
    edit_extra_start: Flat

    def __len__(self) -> int:
        return len(self.label)

    def save(self, path: Path) -> None:
        """Write all of it, whole."""
        arrays = {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}
        write_whole(path, lambda partial: save_file(arrays, partial))

    @classmethod
    def load(cls, path: Path) -> "ExampleSet":
        """Read what :meth:`save` wrote."""
        return cls(**load_file(path))


def collect(judged: Iterable[Judged]) -> ExampleSet:
    """Gather judged queries into flat arrays."""
    table = _Table()
    for item in judged:
        table.add(item)
    return table.result()


class _Table:
    def __init__(self) -> None:
        self.features: list[FloatArray] = []
        self.label: list[int] = []
        self.query: list[int] = []
        self.row: list[int] = []
        self.query_extra: list[Flat] = []
        self.edit_extra: list[Flat] = []
        self.query_tokens: dict[int, Flat] = {}
        self.edit_tokens: dict[int, Flat] = {}

    def add(self, item: Judged) -> None:
        self.query_tokens[item.query] = item.query_side.view.tokens.astype(np.float16)
        for place in item.chosen:
            row, length = item.found[place].row, int(item.edits.token_ok[place].sum())
            self.features.append(item.comparison.features[place])
            self.label.append(item.labels[place])
            self.query.append(item.query)
            self.row.append(row)
            self.query_extra.append(item.comparison.query_tokens[place].astype(np.float16))
            self.edit_extra.append(item.comparison.edit_tokens[place, :length].astype(np.float16))
            if row not in self.edit_tokens:
                self.edit_tokens[row] = item.edits.tokens[place, :length].astype(np.float16)

    def result(self) -> ExampleSet:
        query_tokens, query_start = _flatten(self.query_tokens)
        edit_tokens, edit_start = _flatten(self.edit_tokens)
        query_extra, query_extra_start = _flatten(dict(enumerate(self.query_extra)))
        edit_extra, edit_extra_start = _flatten(dict(enumerate(self.edit_extra)))
        return ExampleSet(
            features=np.stack(self.features),
            label=np.array(self.label, np.int64),
            query=np.array(self.query, np.int64),
            row=np.array(self.row, np.int64),
            query_tokens=query_tokens,
            query_start=query_start,
            edit_tokens=edit_tokens,
            edit_start=edit_start,
            query_extra=query_extra,
            query_extra_start=query_extra_start,
            edit_extra=edit_extra,
            edit_extra_start=edit_extra_start,
        )


def _flatten(parts: dict[int, Flat]) -> tuple[Flat, Flat]:
    """Concatenate arrays; ``start[i]`` is where the array of key i begins, ``start[-1]`` the end of all."""
    start = np.zeros(max(parts) + 2, np.int64)
    at = 0
    for key in range(max(parts) + 1):
        start[key] = at
        at += len(parts.get(key, ()))
    start[-1] = at
    return np.concatenate([parts[key] for key in sorted(parts)]), start
