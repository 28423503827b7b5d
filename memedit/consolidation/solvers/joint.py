"""All edits at once, from the frozen base: the only way weights are made here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.polish import polished
from memedit.consolidation.site import EditSite
from memedit.consolidation.solvers.neurons import Solver, on_neurons
from memedit.consolidation.solvers.restraints import prune, rect
from memedit.consolidation.solvers.ridge import Factors
from memedit.consolidation.solvers.source import Source
from memedit.consolidation.statistics import Statistics
from memedit.errors import FingerprintMismatchError, InputError, ModelError
from memedit.models import LoadedModel
from memedit.models.running import RunningMoments
from memedit.registry import Registry
from memedit.types import WeightDelta, WeightTerm


@dataclass(frozen=True, slots=True)
class Method:
    """A way to solve: the solver, and what belongs to the method's name.

    ``keeps_keys`` says that the published method, batch after batch, holds the keys of earlier batches still.
    """

    solver: Solver
    top_layer_only: bool = False
    keeps_keys: bool = False
    rect_keep: float | None = None
    prune: bool = False


SOLVERS: Registry[Method] = Registry("consolidation method")
for _name in ("alphaedit", "memit", "prune", "rect", "rome", "ultraedit"):
    SOLVERS.register(_name, f"memedit.consolidation.solvers.methods:{_name.upper()}")


def solve(
    loaded: LoadedModel,
    artefacts: Mapping[str, EditArtefact],
    statistics: Statistics,
    settings: ConsolidationSettings,
    method: str = "alphaedit",
    *,
    requests: Sequence[EditRequest] | None = None,
    normaliser: RunningMoments | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WeightDelta:
    """Solve for the change of weights that makes all of ``artefacts`` hold, from the frozen base.

    A function of the *set* of edits: they are taken in the order of their ids, so adding A then B, B then A, or both
    at once gives the same bits, and withdrawing an edit is solving without it.

    Args:
        loaded: the frozen base; only RECT and PRUNE look at its weights.
        artefacts: keys and targets by edit id, of this base and these settings.
        statistics: second moments of the base's keys.
        settings: thresholds and weights of the solve; they grow with the number of edits (``crowding``).
        method: a name of :data:`SOLVERS`.
        requests: edits whose keys and residuals are measured again on the layers written so far (with
            ``settings.relay``); those of the others are taken as they are stored. ``settings.polish`` needs those of
            all edits.
        normaliser: what gradients are made comparable with, where they ask; None takes that of these edits, so that
            the result is a function of the set.
        progress: called with (steps done, steps) while the solution is polished.

    Raises:
        UnknownNameError: no such method; lists near matches.
        InputError: there are no edits, their layers are not those of the statistics, or requests are missing.
        FingerprintMismatchError: the statistics are of another model.
        ModelError: the result is not finite.
    """
    chosen = SOLVERS.get(method)
    if not artefacts:
        raise InputError("there are no edits to solve for; without edits the weights are the base's own")
    if statistics.base != loaded.fingerprint:
        raise FingerprintMismatchError(
            f"the key statistics are of model {statistics.base[:12]}, not of {loaded.fingerprint[:12]}; build them anew"
        )
    site = EditSite.of(loaded, settings)
    ids = sorted(artefacts)
    layers = site.layers[-1:] if chosen.top_layer_only else site.layers
    site = replace(site, layers=layers)
    restrained, terms = settings.for_edits(len(ids)), {}
    again = [request for request in requests or () if settings.relay and _is_aimed(artefacts.get(request.id))]
    with Source(loaded, artefacts, site, settings, again, normaliser=normaliser) as source:
        for layer in layers:
            factors = on_neurons(chosen.solver, statistics.of(layer), *source.at(layer), restrained)
            term = _term(factors, site.weight(loaded.model, layer), chosen, settings)
            terms[site.module_name(layer)] = term
            source.write(layer, term)
    if settings.polish:
        asked = _in_order(requests or (), ids)
        terms = polished(loaded, asked, terms, statistics, settings, progress=progress)
    delta = WeightDelta(loaded.fingerprint, method, settings.fingerprint, tuple(ids), terms)
    if not delta.finite:
        raise ModelError(f"{method} on {len(ids)} edits gave a result that is not finite; raise l2 or mom2_weight")
    return delta


def _is_aimed(artefact: EditArtefact | None) -> bool:
    """Say whether an edit has a target that what is lacking can be measured against."""
    return artefact is not None and artefact.target is not None


def _in_order(requests: Sequence[EditRequest], ids: Sequence[str]) -> list[EditRequest]:
    """Return the request of every edit, in the order of ``ids``."""
    known = {request.id: request for request in requests}
    missing = next((edit for edit in ids if edit not in known), None)
    if missing is not None:
        raise InputError(f"polishing needs the words of every edit; those of {missing} were not given as requests")
    return [known[edit] for edit in ids]


def _term(factors: Factors, weight: Tensor, method: Method, settings: ConsolidationSettings) -> WeightTerm:
    """Restrain the update where asked to, and pack it: as factors where they are smaller than the whole."""
    if method.prune or settings.prune:
        factors = prune(factors, weight)
    keep = settings.rect_keep if settings.rect_keep is not None else method.rect_keep
    up, down = factors
    if keep is not None:
        return WeightTerm(dense=rect(up @ down, weight, keep).numpy())
    if up.shape[1] >= min(weight.shape):
        return WeightTerm(dense=(up @ down).numpy())
    return WeightTerm(up=up.numpy(), down=down.numpy())
