"""Batch after batch on the weights the last one left: how these methods are published, kept for comparison.

Nothing of memedit consolidates this way: keys and targets of a batch depend on the batches before it, so the order
matters and nothing can be taken back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from memedit.consolidation.apply import applied
from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.makers.gradient import gathered
from memedit.consolidation.solvers.joint import SOLVERS, added, solve
from memedit.consolidation.statistics import Statistics
from memedit.consolidation.targets import compute_artefacts
from memedit.models import LoadedModel
from memedit.models.running import RunningMoments
from memedit.types import WeightDelta


def solve_in_turn(
    loaded: LoadedModel,
    batches: Sequence[Sequence[EditRequest]],
    statistics: Statistics,
    settings: ConsolidationSettings,
    method: str = "alphaedit",
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[WeightDelta]:
    """Yield what is in the weights after each batch, over the frozen base.

    Keys and targets of each batch come from the model as the earlier batches left it; statistics stay the base's.
    AlphaEdit also keeps the keys of earlier batches (its ``Kp``) where they are: they are solved for with no residual.
    Gradients are normalised by those of all batches so far, as UltraEdit does.
    """
    total: WeightDelta | None = None
    past: dict[str, EditArtefact] = {}
    running: RunningMoments | None = None
    edits = sum(map(len, batches))
    for batch in batches:
        with nullcontext() if total is None else applied(loaded, total):
            found = compute_artefacts(loaded, batch, settings)
            running = _with_gradients(running, found)
            held = {**past, **found}
            earlier = {} if total is None else total.terms
            delta = solve(
                loaded, held, statistics, settings, method, requests=batch, normaliser=running, earlier=earlier
            )
        total = delta if total is None else _sum(total, delta)
        if SOLVERS.get(method).keeps_keys:
            past |= {edit: _at_rest(artefact) for edit, artefact in found.items()}
        if progress is not None:
            progress(len(total.edits), edits)
        yield total


def _with_gradients(running: RunningMoments | None, found: Mapping[str, EditArtefact]) -> RunningMoments | None:
    """Return the normaliser of all gradients so far, None where edits have targets (UltraEdit, arXiv 2505.14679)."""
    asking = [artefact for artefact in found.values() if artefact.by_gradient]
    if not asking:
        return running
    rows = gathered(asking)
    return RunningMoments.of(rows) if running is None else running.with_rows(rows)


def _at_rest(artefact: EditArtefact) -> EditArtefact:
    """Return the keys with nothing to gain."""
    still = {layer: np.zeros_like(residual) for layer, residual in artefact.residuals.items()}
    return replace(artefact, residuals=still, target=artefact.hidden)


def _sum(one: WeightDelta, other: WeightDelta) -> WeightDelta:
    return replace(one, edits=tuple(sorted({*one.edits, *other.edits})), terms=added(one.terms, other.terms))
