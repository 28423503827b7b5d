"""All edits at once, from the frozen base: the only way weights are made here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from memedit.consolidation.apply import applied
from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.consolidation.makers.gradient import gathered
from memedit.consolidation.polish import polished
from memedit.consolidation.site import EditSite
from memedit.consolidation.solvers.neurons import Solver, on_neurons
from memedit.consolidation.solvers.restraints import keep_off, prune, rect
from memedit.consolidation.solvers.ridge import Factors
from memedit.consolidation.solvers.source import Source
from memedit.consolidation.statistics import Statistics
from memedit.consolidation.targets import compute_artefacts
from memedit.errors import FingerprintMismatchError, InputError, ModelError
from memedit.models import LoadedModel
from memedit.models.running import RunningMoments
from memedit.registry import Registry
from memedit.types import WeightDelta, WeightTerm

Terms = dict[str, WeightTerm]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to solve: the solver, and what belongs to the method's name.

    ``keeps_keys`` says that the published method, batch after batch, holds the keys of earlier batches still, and
    ``keeps_off`` which share of what earlier batches changed a later one has to leave alone (O-Edit): such a method
    exists batch after batch only. ``own_ridge`` says that the network which made the edits' asks also says how much
    holds the weights back.
    """

    solver: Solver
    top_layer_only: bool = False
    keeps_keys: bool = False
    own_ridge: bool = False
    rect_keep: float | None = None
    prune: bool = False
    keeps_off: float | None = None


SOLVERS: Registry[Method] = Registry("consolidation method")
for _name in ("alphaedit", "malmen", "memit", "o_edit", "prune", "rect", "rledit", "rome", "ultraedit"):
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
    earlier: Mapping[str, WeightTerm] | None = None,
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
            ``settings.relay``); those of the others are taken as they are stored. ``settings.polish`` and
            ``settings.gradient_rounds`` need those of all edits.
        normaliser: what gradients are made comparable with, where they ask; None takes that of these edits, so that
            the result is a function of the set.
        earlier: what earlier batches left in the weights, where there are any.
        progress: called with (steps done, steps) while the solution is polished.

    Raises:
        UnknownNameError: no such method; lists near matches.
        InputError: there are no edits, their layers are not those of the statistics, requests are missing, or the
            method exists batch after batch only.
        FingerprintMismatchError: the statistics are of another model.
        ModelError: the result is not finite.
    """
    chosen = SOLVERS.get(method)
    if not artefacts:
        raise InputError("there are no edits to solve for; without edits the weights are the base's own")
    if chosen.keeps_off is not None and earlier is None:
        raise InputError(f"{method} exists batch after batch only: memedit bench consolidation --sequential")
    if statistics.base != loaded.fingerprint:
        raise FingerprintMismatchError(
            f"the key statistics are of model {statistics.base[:12]}, not of {loaded.fingerprint[:12]}; build them anew"
        )
    site = EditSite.of(loaded, settings)
    ids = sorted(artefacts)
    layers = site.layers[-1:] if chosen.top_layer_only else site.layers
    site = replace(site, layers=layers)
    once = partial(
        _solved, loaded, statistics=statistics, settings=settings, site=site, method=chosen, earlier=earlier or {}
    )
    if not all(artefacts[edit].by_gradient for edit in ids):
        again = [
            r for r in requests or () if settings.relay and r.id in artefacts and artefacts[r.id].target is not None
        ]
        terms = once(artefacts, again=again)
    else:
        terms = _in_rounds(loaded, artefacts, settings, once, requests=requests or (), normaliser=normaliser)
    if settings.polish:
        asked = _in_order(requests or (), ids)
        terms = polished(loaded, asked, terms, statistics, settings, progress=progress)
    delta = WeightDelta(loaded.fingerprint, method, settings.fingerprint, tuple(ids), terms)
    if not delta.finite:
        raise ModelError(f"{method} on {len(ids)} edits gave a result that is not finite; raise l2 or mom2_weight")
    return delta


def _solved(
    loaded: LoadedModel,
    artefacts: Mapping[str, EditArtefact],
    *,
    statistics: Statistics,
    settings: ConsolidationSettings,
    site: EditSite,
    method: Method,
    earlier: Mapping[str, WeightTerm],
    again: Sequence[EditRequest] = (),
    normaliser: RunningMoments | None = None,
) -> Terms:
    """Solve layer after layer; ``again`` are measured on the layers written so far."""
    restrained, terms = settings.for_edits(len(artefacts)), Terms()
    with Source(loaded, artefacts, site, settings, again, normaliser=normaliser) as source:
        for layer in site.layers:
            held = _held_back(artefacts, layer, statistics, restrained) if method.own_ridge else restrained
            factors = on_neurons(method.solver, statistics.of(layer), *source.at(layer), held)
            name = site.module_name(layer)
            if method.keeps_off is not None and name in earlier:
                factors = keep_off(factors, torch.from_numpy(earlier[name].matrix()), method.keeps_off)
            terms[name] = term = _term(factors, site.weight(loaded.model, layer), method, settings)
            source.write(layer, term)
    return terms


def _held_back(
    artefacts: Mapping[str, EditArtefact], layer: int, statistics: Statistics, settings: ConsolidationSettings
) -> ConsolidationSettings:
    """Return the settings with the ridge that the network of these edits was trained with.

    Raises:
        InputError: some edits were not made by a network, or not by the same one.
    """
    found = {None if one.ridges is None else one.ridges.get(layer) for one in artefacts.values()}
    ridge = found.pop()
    if found or ridge is None:
        raise InputError("this method solves what one trained network asks for; set maker to hypernet, and its network")
    return replace(settings, l2=ridge / statistics.of(layer).scale)


def _in_rounds(
    loaded: LoadedModel,
    artefacts: Mapping[str, EditArtefact],
    settings: ConsolidationSettings,
    once: Callable[..., Terms],
    *,
    requests: Sequence[EditRequest],
    normaliser: RunningMoments | None,
) -> Terms:
    """Solve for gradients, take those on the solution, and solve for them on top, ``settings.gradient_rounds`` times.

    All rounds share the first one's normaliser: an edit that is written already has little gradient left and asks for
    little. Edits without any gradient are not asked again. Still a function of the set.
    """
    ids = sorted(artefacts)
    if normaliser is None:
        normaliser = RunningMoments.of(gathered(artefacts[edit] for edit in ids))
    asking = [edit for edit in ids if any(part.any() for part in artefacts[edit].residuals.values())]
    terms = once(artefacts, normaliser=normaliser)
    for _ in range(settings.gradient_rounds - 1):
        words = _in_order(requests, asking)
        with applied(loaded, WeightDelta(loaded.fingerprint, "", "", (), terms)):
            left = compute_artefacts(loaded, words, settings)
            terms = added(terms, once({**artefacts, **left}, normaliser=normaliser))
    return terms


def added(one: Mapping[str, WeightTerm], other: Mapping[str, WeightTerm]) -> Terms:
    """Return the sum of two changes of the same weights."""
    return {name: WeightTerm(dense=term.matrix() + other[name].matrix()) for name, term in one.items()}


def _in_order(requests: Sequence[EditRequest], ids: Sequence[str]) -> list[EditRequest]:
    """Return the request of every edit, in the order of ``ids``."""
    known = {request.id: request for request in requests}
    missing = next((edit for edit in ids if edit not in known), None)
    if missing is not None:
        raise InputError(
            f"polishing and rounds of gradients need the words of every edit; those of {missing} were not given"
        )
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
