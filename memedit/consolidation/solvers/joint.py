"""All edits at once, from the frozen base: the only way weights are made here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.consolidation.artefacts import EditArtefact
from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.site import EditSite
from memedit.consolidation.solvers.restraints import prune, rect
from memedit.consolidation.solvers.ridge import Factors
from memedit.consolidation.statistics import Statistics
from memedit.errors import FingerprintMismatchError, InputError, ModelError
from memedit.models import LoadedModel
from memedit.registry import Registry
from memedit.types import WeightDelta, WeightTerm

Solver = Callable[[LayerMoments, Tensor, Tensor, ConsolidationSettings], Factors]


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
for _name in ("alphaedit", "memit", "prune", "rect", "rome"):
    SOLVERS.register(_name, f"memedit.consolidation.solvers.methods:{_name.upper()}")


def solve(
    loaded: LoadedModel,
    artefacts: Mapping[str, EditArtefact],
    statistics: Statistics,
    settings: ConsolidationSettings,
    method: str = "alphaedit",
) -> WeightDelta:
    """Solve for the change of weights that makes all of ``artefacts`` hold, from the frozen base.

    A function of the *set* of edits: they are taken in the order of their ids, so adding A then B, B then A, or both
    at once gives the same bits, and withdrawing an edit is solving without it.

    Args:
        loaded: the frozen base; only RECT and PRUNE look at its weights.
        artefacts: keys and targets by edit id, of this base and these settings.
        statistics: second moments of the base's keys.
        settings: thresholds and weights of the solve.
        method: a name of :data:`SOLVERS`.

    Raises:
        UnknownNameError: no such method; lists near matches.
        InputError: there are no edits, or their layers are not those of the statistics.
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
    terms = {}
    for layer in layers:
        keys, residuals = _columns(artefacts, ids, layer, settings, top_only=chosen.top_layer_only)
        factors = chosen.solver(statistics.of(layer), keys, residuals, settings)
        terms[site.module_name(layer)] = _term(factors, site.weight(loaded.model, layer), chosen, settings)
    delta = WeightDelta(loaded.fingerprint, method, settings.fingerprint, tuple(ids), terms)
    if not delta.finite:
        raise ModelError(f"{method} on {len(ids)} edits gave a result that is not finite; raise l2 or mom2_weight")
    return delta


def _columns(
    artefacts: Mapping[str, EditArtefact],
    ids: list[str],
    layer: int,
    settings: ConsolidationSettings,
    *,
    top_only: bool,
) -> tuple[Tensor, Tensor]:
    """Return keys ``[d_in, n]`` and residuals ``[d_out, n]`` of the edits, in the order of ``ids``."""
    dtype = torch.float64 if settings.solve_dtype == "float64" else torch.float32
    missing = [edit for edit in ids if layer not in artefacts[edit].keys]
    if missing:
        raise InputError(
            f"edit {missing[0]} has keys for layers {artefacts[missing[0]].layers}, not for layer {layer}: they were "
            "computed with other settings; compute them anew"
        )
    keys = [torch.from_numpy(artefacts[edit].keys[layer]) for edit in ids]
    if top_only:
        residuals = [torch.from_numpy(artefacts[edit].target - artefacts[edit].hidden) for edit in ids]
    else:
        residuals = [torch.from_numpy(artefacts[edit].residuals[layer]) for edit in ids]
    return torch.stack(keys, 1).to(dtype), torch.stack(residuals, 1).to(dtype)


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
