"""What an evaluation has found, before it is written as files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from memedit.evaluation.metrics.statistics import mcnemar, paired_bootstrap
from memedit.evaluation.results import Comparison, ResultRow
from memedit.evaluation.rows.base import Finding
from memedit.evaluation.scoring import Answered, Failure, Observations, failures, worst

COMPARED = (
    "reliability", "generality", "locality", "specificity", "efficacy", "paraphrase_efficacy", "rouge_l",
    "rouge_l_paraphrase", "portability.reasoning", "portability.alias", "portability.multi_hop",
)  # fmt: skip
"""Metrics on which methods are compared pairwise."""
BASELINES = ("base", "rag", "oracle")
"""Methods that stand in every table to measure the others by."""


@dataclass(frozen=True, slots=True)
class MethodRun:
    """One row of results with what is behind it. ``answered`` is empty under teacher forcing."""

    row: ResultRow
    observations: Observations
    answered: tuple[Answered, ...] = ()
    thresholded: bool = False
    """Whether edits fire by a threshold, so that other thresholds can be looked at afterwards."""
    findings: tuple[Finding, ...] = ()
    """What further rows of evaluation found."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything one evaluation has found, in the order it was run."""

    runs: tuple[MethodRun, ...]
    manifest: Mapping[str, Any]
    edits: Mapping[tuple[str, int], str]
    """Text of each edit that fired, by data set and place in its stream, for people to read."""
    seed: int = 0

    @property
    def rows(self) -> list[ResultRow]:
        """The rows of ``results.json``."""
        return [run.row for run in self.runs]

    def comparisons(self) -> list[Comparison]:
        """Return every two methods on the same data, protocol and metric, by a paired test."""
        groups: dict[tuple[str, int, str], list[MethodRun]] = {}
        for run in self.runs:
            groups.setdefault((run.row.dataset, run.row.edits, run.row.protocol), []).append(run)
        return [
            found
            for group in groups.values()
            for first, second in combinations(group, 2)
            for found in _compare(first, second, self.seed)
        ]

    def worst_failures(self, count: int = 50) -> list[Failure]:
        """Return the worst failures of the methods under test; of the baselines where nothing else was run."""
        runs = [run for run in self.runs if run.answered]
        tested = [run for run in runs if run.row.method not in BASELINES] or [run for run in runs if _is_edited(run)]
        found = [f for run in tested for f in failures(run.row.dataset, run.row.method, run.answered)]
        return worst(found, count)


def rows_json(outcome: Outcome) -> dict[str, Any]:
    """Return the document of ``rows.json``: what every row found about each method."""
    return {
        "findings": [
            {"dataset": run.row.dataset, "edits": run.row.edits, **finding.as_json()}
            for run in outcome.runs
            for finding in run.findings
        ]
    }


def _is_edited(run: MethodRun) -> bool:
    return run.row.method != "base"


def _compare(first: MethodRun, second: MethodRun, seed: int) -> Iterator[Comparison]:
    for metric in COMPARED:
        pairs = _paired(first.observations, second.observations, metric)
        if not pairs:
            continue
        a, b = [x for x, _ in pairs], [y for _, y in pairs]
        if all(isinstance(value, bool) for value in (*a, *b)):
            test = mcnemar([bool(x) for x in a], [bool(y) for y in b], seed=seed)
        else:
            test = paired_bootstrap([100.0 * x for x in a], [100.0 * y for y in b], seed=seed)
        row = first.row
        yield Comparison(row.dataset, row.edits, row.protocol, metric, row.method, second.row.method, test)


def _paired(first: Observations, second: Observations, metric: str) -> Sequence[tuple[bool | float, bool | float]]:
    a, b = first.values.get(metric, {}), second.values.get(metric, {})
    return [(a[key], b[key]) for key in a if key in b]
