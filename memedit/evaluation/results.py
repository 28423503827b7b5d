"""The results and their JSON form, which other programs read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.evaluation.metrics.statistics import Estimate, PairedTest
from memedit.whole_files import write_text

TIMING_METRICS = ("tokens_per_second", "milliseconds_per_query", "seconds_per_edit", "peak_rss_mb")
"""Metrics that differ from run to run; everything else is the same for the same manifest."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One method on one data set under one protocol. ``queries`` counts the cases asked about."""

    method: str
    model: str
    dataset: str
    edits: int
    queries: int
    protocol: str
    metrics: Mapping[str, Estimate]

    def as_json(self) -> dict[str, Any]:
        """Return the row of ``results.json``."""
        return {
            "method": self.method,
            "model": self.model,
            "dataset": self.dataset,
            "edits": self.edits,
            "queries": self.queries,
            "protocol": self.protocol,
            "metrics": {name: estimate.as_json() for name, estimate in self.metrics.items()},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """A method against another on the same probes, for one metric of one data set and protocol."""

    dataset: str
    edits: int
    protocol: str
    metric: str
    first: str
    second: str
    test: PairedTest

    def as_json(self) -> dict[str, Any]:
        """Return the entry of ``comparisons.json``."""
        test = self.test
        numbers = {k: round(getattr(test, k), 6) + 0.0 for k in ("difference", "ci_low", "ci_high", "p_value")}
        named = {name: getattr(self, name) for name in ("dataset", "edits", "protocol", "metric", "first", "second")}
        return {**named, "test": test.test, "n": test.n, **numbers}


def results_json(rows: Sequence[ResultRow]) -> dict[str, Any]:
    """Return the document of ``results.json``."""
    return {"rows": [row.as_json() for row in rows]}


def write_json(path: Path, document: Any) -> None:
    """Write JSON so that the file is the old one or the new one, whole, whatever happens.

    Raises:
        ValueError: the document holds a number that JSON has no form for.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)
