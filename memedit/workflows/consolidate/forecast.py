"""How long a job will take and how much memory it will need, worked out from a few of its edits done for real.

A handful of edits goes through the stages whose cost grows with their number: keys and targets, the relay of the
solve, and the asking. What the solve's linear algebra takes follows from its operations, and the speed of this machine
at them. Nothing is written.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from memedit.consolidation import EditArtefact, Statistics, compute_artefacts, solve
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.site import EditSite
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.consolidate.checking import check_edits, questions_of
from memedit.workflows.consolidate.planning import delta_bytes, job_bytes, plan_job, row_tokens
from memedit.workflows.consolidate.selecting import Selection, edit_requests
from memedit.workflows.consolidate.settings import JobSettings

SAMPLE = 16
"""Edits that are done for real."""
_SPEED_SIDE = 768
"""Side of the matrices by which the speed of linear algebra is measured."""
_FREE = 0.85
"""Share of the directions that AlphaEdit may use, as a rule."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a job over ``edits`` edits takes.

    ``seconds`` by stage, as this machine is loaded now; ``bytes`` needed beyond the loaded model by the stage that
    needs them. ``sampled`` edits were done for real.
    """

    edits: int
    sampled: int
    seconds: Mapping[str, float]
    bytes: Mapping[str, int]
    disk_bytes: int

    @property
    def total_seconds(self) -> float:
        """The whole job's."""
        return sum(self.seconds.values())

    @property
    def peak_bytes(self) -> int:
        """Those of the stage that needs most."""
        return max(self.bytes.values(), default=0)


def forecast_job(
    memory: EditMemory,
    loaded: LoadedModel,
    selection: Selection,
    settings: JobSettings,
    *,
    edits: int | None = None,
    sample: int = SAMPLE,
) -> Forecast:
    """Measure the first ``sample`` edits and work out the rest.

    Args:
        memory: where kept keys and targets lie.
        loaded: the frozen base.
        selection: the job's edits.
        settings: of the job.
        edits: plan for so many edits like these; None is as many as there are. More than there are have no keys yet.
        sample: edits done for real, at most all.

    Raises:
        UnsupportedModelError: edits cannot be written into this model's weights; says what to do instead.
    """
    planned = plan_job(memory, loaded, selection, settings)
    count = len(selection.edits) if edits is None else edits
    missing = planned.to_compute + max(0, count - len(selection.edits))
    # the n-th of them, so that the sample's lengths are those of all
    chosen = selection.edits[:: max(1, len(selection.edits) // sample)][:sample]
    if not chosen or not count:
        return Forecast(count, 0, {}, {}, planned.disk_bytes)
    rates = _measured(loaded, edit_requests(chosen, closing=settings.closing), settings)
    questions = questions_of(chosen) / len(chosen)
    asking = _timed(lambda: check_edits(BareAnswerer(loaded), chosen, settings)) / (len(chosen) * questions)
    once = planned.seconds
    polishing = settings.solver.polish and once["solve and check"]  # the rates of one forward pass have to do
    seconds = {
        "statistics": once["statistics"],
        "keys and targets": rates.targets.at(missing),
        "solve": settings.rounds * solve_seconds(loaded, settings.solver, count, rates) + polishing,
        # once more of the base, for comparison; and in the last round in other words
        "asking": asking * count * ((settings.rounds + 1) * questions + settings.wordings),
        "gates": once["gates"],
    }
    return Forecast(
        edits=count,
        sampled=len(chosen),
        seconds={stage: round(value, 1) for stage, value in seconds.items()},
        bytes=job_bytes(loaded, settings.solver, count, row_tokens(chosen)),
        disk_bytes=planned.disk_bytes + delta_bytes(loaded, settings.solver, count)
        - delta_bytes(loaded, settings.solver, planned.edits),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds that grow with the number of edits: ``fixed`` and, for each edit, ``each``."""

    fixed: float
    each: float

    def at(self, edits: int) -> float:
        """Return the seconds for so many edits."""
        return self.fixed + self.each * edits if edits else 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What ``targets`` and the ``relay`` of a solve take, and multiplications of float64 a second (``speed``)."""

    targets: Line
    relay: Line
    speed: float


def _measured(loaded: LoadedModel, requests: Sequence[EditRequest], settings: JobSettings) -> Rates:
    """Do some edits for real."""
    # the Fisher information is measured once a model; the steps cost the same without it
    plain = replace(settings.solver, damping=None)
    statistics = stand_in_statistics(loaded, plain)
    found: dict[str, EditArtefact] = {}

    def solving(asked: Sequence[EditRequest]) -> None:
        some = {request.id: found[request.id] for request in asked}
        solve(loaded, some, statistics, replace(plain, polish=0), settings.method, requests=asked)

    targets = _line(lambda asked: found.update(compute_artefacts(loaded, asked, plain)), requests)
    return Rates(targets, _line(solving, requests), measured_speed())


def _line(work: Callable[[Sequence[EditRequest]], None], requests: Sequence[EditRequest]) -> Line:
    """Time one request and all of them."""
    work(requests[:1])  # the first time pays for warming up
    few, many = _timed(lambda: work(requests[:1])), _timed(lambda: work(requests))
    each = max(0.0, many - few) / max(1, len(requests) - 1)
    return Line(max(0.0, few - each), each)


def stand_in_statistics(loaded: LoadedModel, settings: ConsolidationSettings) -> Statistics:
    """Return statistics of the right shapes, without reading a text: a solve costs the same whatever they are."""
    site = EditSite.of(loaded, settings)
    wide = site.linear.in_features
    values = torch.logspace(-3.0, 1.0, wide, dtype=torch.float64)
    moments = LayerMoments(values / values.mean(), torch.eye(wide, dtype=torch.float64), 1)
    return Statistics(loaded.fingerprint, "stand-in", "stand-in", dict.fromkeys(site.layers, moments))


def solve_seconds(loaded: LoadedModel, settings: ConsolidationSettings, edits: int, rates: Rates) -> float:
    """Return what one solve for so many edits takes."""
    return rates.relay.at(edits) + solve_operations(loaded, settings, edits) / rates.speed


def solve_operations(loaded: LoadedModel, settings: ConsolidationSettings, edits: int) -> float:
    """Count the multiplications of a solve's linear algebra (:mod:`memedit.consolidation.solvers.ridge`)."""
    site = EditSite.of(loaded, settings)
    wide, out = site.linear.in_features, site.linear.out_features
    free = _FREE * wide
    small = min(edits, free)
    gram = free * edits * small
    a_layer = wide * free * edits + gram + out * free * edits + small**3 / 3 + small**2 * out + wide * free * out
    return float(len(site.layers) * a_layer)


def measured_speed() -> float:
    """Return how many multiplications of float64 matrices this machine does a second."""
    matrix = torch.full((_SPEED_SIDE, _SPEED_SIDE), 0.5, dtype=torch.float64)
    torch.mm(matrix, matrix)
    return _SPEED_SIDE**3 / min(_timed(lambda: torch.mm(matrix, matrix)) for _ in range(3))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
