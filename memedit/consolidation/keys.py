"""Keys and residuals of every edited layer, along the way from the base's hidden state to the target.

The residual is spread over the layers in equal parts (MEMIT, arXiv 2210.07229, section 4.3), each part being what is
still lacking behind the top edited layer once the parts of the layers below are in. MEMIT measures that on a model
whose lower layers have been edited with *all* edits of the batch. Here each edit's own parts are put into the hidden
state instead. So keys and residuals of an edit depend on the edit and the base alone: solving is linear, layers are
solved independently, and neither the order of edits nor which others are there can matter.

Most models add what the edited map puts out to the hidden state as it is. Where a norm comes between (Gemma 2
and 3) the output that comes nearest to the wanted change behind the layer is found by descent.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memedit.consolidation.batch import PreparedBatch
from memedit.consolidation.optimise import mean_by
from memedit.consolidation.site import EditSite
from memedit.models.hooks import capture
from memedit.models.segments import Inputs, Segments, output_raised

_DIRECT = 1e-2
"""Largest relative error at which a change of the map's output counts as passed on as it is."""
_DESCENT_STEPS = 40
_DESCENT_RATE = 0.05


@dataclass(frozen=True, slots=True)
class LayerKeys:
    """Keys ``[E, d_in]`` and residuals ``[E, d_out]`` by layer; ``hidden`` ``[E, d_model]`` behind the top layer."""

    keys: dict[int, Tensor]
    residuals: dict[int, Tensor]
    hidden: Tensor


@torch.no_grad()
def layer_keys(segments: Segments, site: EditSite, batch: PreparedBatch, delta: Tensor) -> LayerKeys:
    """Return keys and residuals, averaged over each edit's contexts, for targets ``hidden + delta``."""
    past = batch.tail.mask.shape[1] - batch.tail.ids.shape[1]
    inputs = replace(batch.tail, ids=batch.tail.ids[:, :1], positions=batch.tail.positions[:, :1])
    inputs = replace(inputs, mask=batch.tail.mask[:, : past + 1])
    hidden = _averaged(batch.top[:, 0], batch)
    wanted = hidden + delta
    keys: dict[int, Tensor] = {}
    residuals: dict[int, Tensor] = {}
    first, state = site.layers[0], batch.entry[:, None]
    for left, layer in zip(range(len(site.layers), 0, -1), site.layers, strict=True):
        behind, start, state, seen = _run(segments, site, inputs, first=first, layer=layer, start=state)
        keys[layer] = _averaged(seen, batch)
        lacking = (wanted - _averaged(behind[:, 0], batch)) / left
        edited = torch.zeros_like(batch.edit_of_row)
        passing = Passing(segments, site.module_name(layer), inputs, layer=layer, start=start, at=edited)
        residuals[layer], passed = passing.pull_back(lacking, state[:, 0], batch.edit_of_row)
        first, state = layer + 1, passed[:, None]
    return LayerKeys(keys, residuals, hidden)


class Passing:
    """How a change of the edited map's output comes out behind its layer.

    Args:
        segments: the model.
        name: path of the edited map.
        inputs: rows of tokens ``[R, t]``.
        layer: the layer.
        start: hidden states ``[R, t, d_model]`` in front of it.
        at: the edited position of each row ``[R]``. Within one layer nothing there hangs on what the map puts out
            elsewhere, so a change may be added at all positions.
    """

    def __init__(self, segments: Segments, name: str, inputs: Inputs, *, layer: int, start: Tensor, at: Tensor) -> None:
        self._segments, self._name, self._inputs = segments, name, inputs
        self._layer, self._start, self._at = layer, start, at

    def _behind(self, change: Tensor) -> Tensor:
        with output_raised(self._segments.model.get_submodule(self._name), change[:, None].to(self._start)):
            found, _ = self._segments.hidden(self._inputs, first=self._layer, last=self._layer, start=self._start)
        return at_places(found, self._at)

    def pull_back(self, wanted: Tensor, state: Tensor, edit_of_row: Tensor) -> tuple[Tensor, Tensor]:
        """Return the change of output ``[E, d]`` for ``wanted`` ``[E, d]`` behind the layer, and where that leads.

        ``state`` are the states ``[R, d]`` behind the layer without any change; those with it come back.
        """
        aim = state.float() + wanted[edit_of_row]
        behind = self._behind(wanted[edit_of_row])
        rounding = 4 * torch.finfo(state.dtype).eps * float(aim.norm())
        if float((behind - aim).norm()) <= _DIRECT * float(wanted[edit_of_row].norm()) + rounding:
            return wanted, behind
        with capture(self._segments.model, [self._name], inputs=False) as seen:
            self._behind(torch.zeros_like(wanted[edit_of_row]))
        put_out = at_places(seen.outputs[self._name][0], self._at).float()
        scale = mean_by(put_out, edit_of_row, len(wanted)).pow(2).mean(-1, keepdim=True).sqrt()
        change = torch.zeros_like(wanted).requires_grad_()
        optimiser = torch.optim.Adam([change], lr=_DESCENT_RATE)
        with torch.enable_grad():
            for _ in range(_DESCENT_STEPS):
                distance = (self._behind((scale * change)[edit_of_row]).float() - aim).pow(2).sum()
                (change.grad,) = torch.autograd.grad(distance, change)
                optimiser.step()
        found = (scale * change).detach()
        return found, self._behind(found[edit_of_row])


def at_places(values: Tensor, at: Tensor) -> Tensor:
    """Return ``values`` ``[R, t, d]`` at one position ``[R]`` of each row: ``[R, d]``."""
    return values[torch.arange(len(at), device=values.device), at]


def _run(
    segments: Segments, site: EditSite, inputs: Inputs, *, first: int, layer: int, start: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run ``first`` to the top edited layer.

    Returns:
        the states behind the top, those in front of and behind ``layer``, and its keys.
    """
    name, block = site.module_name(layer), f"{site.spec.layers}.{layer}"
    if layer > first:
        start, _ = segments.hidden(inputs, first=first, last=layer - 1, start=start)
    with capture(segments.model, [name, block]) as seen:
        behind, _ = segments.hidden(inputs, first=layer, last=site.layers[-1], start=start)
    return behind, start, seen.outputs[block][0], seen.inputs[name][0][:, 0]


def _averaged(values: Tensor, batch: PreparedBatch) -> Tensor:
    """Average ``[R, d]`` over the rows of each edit: ``[E, d]``, float32."""
    return mean_by(values.float(), batch.edit_of_row, batch.edits)
