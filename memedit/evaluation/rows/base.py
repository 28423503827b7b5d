"""What a row of evaluation is given, and what it finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.answering import Generation, Scoring
from memedit.evaluation.cases import Case
from memedit.evaluation.metrics.statistics import Estimate
from memedit.evaluation.requests import SampleRequest, ScoreRequest
from memedit.evaluation.scoring import Answered
from memedit.evaluation.stream import AskedProbe, Queries
from memedit.types import WeightDelta

Cell = str | float | Estimate | None
States = NDArray[np.float32]
"""Hidden states ``[texts, layers, d_model]``."""


@dataclass(frozen=True, slots=True)
class RowData:
    """What was asked: the data's form, its cases in stream order, the drawn queries, a text if one was given.

    ``samples`` continuations are sampled of a prompt by rows that sample.
    """

    format: str
    cases: tuple[Case, ...]
    queries: Queries
    seed: int
    text: str | None = None
    samples: int = 20


class Asking(Protocol):
    """A method of the run, to ask more of. Answers are kept in the run's journal under ``what`` is asked."""

    @property
    def name(self) -> str:
        """The method's name."""

    @property
    def answered(self) -> Sequence[Answered]:
        """The queries' probes with the method's generated answers and the base's."""

    @property
    def delta(self) -> WeightDelta | None:
        """What the method changes in the weights; None where it leaves them alone."""

    def answer(self, what: str, probes: Sequence[AskedProbe]) -> list[Answered]:
        """Generate answers to further probes, the base's beside them; limits are those of the generate protocol."""

    def score(self, what: str, requests: Sequence[ScoreRequest]) -> list[Scoring]:
        """Score targets."""

    def sample(self, what: str, requests: Sequence[SampleRequest]) -> list[Generation]:
        """Continue prompts by sampling at temperature 1."""

    def states(self, texts: Sequence[str], *, delta: WeightDelta | None = None) -> States:
        """Return the hidden states at each text's last token, in :attr:`layers`.

        With ``delta`` they are the untouched base's under that change of its weights. What an edit puts into a prompt
        is part of what is read.
        """

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of :meth:`states`: behind the edited ones, two thirds of the depth, the last."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a finding; estimates are shown with interval and n, numbers with three digits."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points to draw, those of all methods in one plot under its title; ``y`` with intervals."""

    title: str
    x_label: str
    y_label: str
    points: tuple[tuple[float, Estimate], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a row found about one method.

    ``metrics`` go into ``results.json``, their names beginning with the row's; ``facts`` (plain values) into
    ``rows.json`` with the tables.
    """

    row: str
    method: str
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the entry of ``rows.json``."""
        return {
            "row": self.row,
            "method": self.method,
            "metrics": {name: estimate.as_json() for name, estimate in self.metrics.items()},
            "tables": [
                {"title": t.title, "columns": list(t.columns), "lines": [list(map(_plain, line)) for line in t.lines]}
                for t in self.tables
            ],
            "facts": dict(self.facts),
        }


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return cell.as_json()
    return round(cell, 6) if isinstance(cell, float) else cell


class Row(Protocol):
    """A row of evaluation."""

    name: str
    needs: tuple[str, ...]
    """Methods that must be in the run."""

    def measure(self, method: Asking, others: Mapping[str, Asking], data: RowData) -> Finding:
        """Ask or group, and judge. ``others`` has every method of the run by name, ``base`` among them."""
