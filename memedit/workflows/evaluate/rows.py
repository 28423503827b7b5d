"""Rows of evaluation on one data set: what each asks of every method, by the run's journal."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from memedit.consolidation import applied
from memedit.evaluation.answering import Generation, Scoring
from memedit.evaluation.cache import Request
from memedit.evaluation.outcome import MethodRun
from memedit.evaluation.records import Result
from memedit.evaluation.requests import SampleRequest, ScoreRequest, plan_generate
from memedit.evaluation.rows import ROWS
from memedit.evaluation.rows.base import Finding, Row, RowData, States
from memedit.evaluation.scoring import Answered
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import AskedProbe
from memedit.types import WeightDelta
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.states import last_states, state_layers

if TYPE_CHECKING:
    from memedit.workflows.evaluate.stage import Workbench

Served = Callable[[str, Sequence[Request]], Sequence[Result]]
"""Serves distinct requests by one method, under a name in the journal."""
Kind = TypeVar("Kind", Generation, Scoring)


def rows_named(names: Sequence[str]) -> list[Row]:
    """Return rows by name, each once.

    Raises:
        UnknownNameError: no such row; lists near matches.
    """
    return [ROWS.get(name)() for name in dict.fromkeys(names)]


def methods_needed(names: Sequence[str]) -> list[str]:
    """Return the methods that rows need beside those under test."""
    return [method for row in rows_named(names) for method in row.needs]


@dataclass
class AskedMethod:
    """One method of a run as rows ask it; see :class:`memedit.evaluation.rows.base.Asking`."""

    run: MethodRun
    bench: "Workbench"
    settings: EvalSettings
    serve: Served
    serve_base: Served
    answerer: Callable[[], BareAnswerer]
    _states: dict[tuple[str, ...], States] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The method's name."""
        return self.run.row.method

    @property
    def answered(self) -> Sequence[Answered]:
        """See :class:`~memedit.evaluation.rows.base.Asking`."""
        return self.run.answered

    @property
    def delta(self) -> WeightDelta | None:
        """See :class:`~memedit.evaluation.rows.base.Asking`."""
        found: WeightDelta | None = getattr(self.answerer(), "delta", None)
        return found

    @property
    def layers(self) -> tuple[int, ...]:
        """See :class:`~memedit.evaluation.rows.base.Asking`."""
        return state_layers(self.bench.loaded, self.bench.consolidation.solver.layers)

    def answer(self, what: str, probes: Sequence[AskedProbe]) -> list[Answered]:
        """See :class:`~memedit.evaluation.rows.base.Asking`."""
        plan = plan_generate(probes, self.bench.base, self.settings)
        own, base = self.serve(what, plan.requests), self.serve_base(what, plan.requests)
        return [
            Answered(asked, _kind(own[i], Generation), _kind(base[i], Generation))
            for asked, i in zip(probes, plan.of_probe, strict=True)
        ]

    def score(self, what: str, requests: Sequence[ScoreRequest]) -> list[Scoring]:
        """See :class:`~memedit.evaluation.rows.base.Asking`."""
        return [_kind(result, Scoring) for result in self._distinct(what, requests)]

    def sample(self, what: str, requests: Sequence[SampleRequest]) -> list[Generation]:
        """See :class:`~memedit.evaluation.rows.base.Asking`."""
        return [_kind(result, Generation) for result in self._distinct(what, requests)]

    def _distinct(self, what: str, requests: Sequence[Request]) -> list[Result]:
        places = {request: i for i, request in enumerate(dict.fromkeys(requests))}
        results = self.serve(what, list(places))
        return [results[places[request]] for request in requests]

    def states(self, texts: Sequence[str], *, delta: WeightDelta | None = None) -> States:
        """See :class:`~memedit.evaluation.rows.base.Asking`."""
        loaded = self.bench.loaded
        if delta is not None:
            with applied(loaded, delta):
                return last_states(loaded, self.bench.base, texts, self.layers)
        key = tuple(texts)
        if key not in self._states:
            self._states[key] = last_states(loaded, self.answerer(), texts, self.layers)
        return self._states[key]


def measure_rows(
    names: Sequence[str], asked: Mapping[str, AskedMethod], data: RowData, aside: Container[str]
) -> dict[str, list[Finding]]:
    """Return what every row found about each method; of those ``aside`` a row asks only the ones that it needs."""
    rows = rows_named(names)
    return {
        name: [row.measure(method, asked, data) for row in rows if name not in aside or name in row.needs]
        for name, method in asked.items()
    }


def with_findings(run: MethodRun, findings: Sequence[Finding]) -> MethodRun:
    """Return a run with what rows found, their metrics among its own."""
    metrics = {**run.row.metrics, **{name: e for found in findings for name, e in found.metrics.items()}}
    return replace(run, row=replace(run.row, metrics=metrics), findings=tuple(findings))


def _kind(result: Result, kind: type[Kind]) -> Kind:
    if not isinstance(result, kind):
        raise TypeError(f"expected a {kind.__name__}, found {type(result).__name__}")
    return result
