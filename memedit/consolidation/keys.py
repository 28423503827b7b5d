"""Keys and residuals of every edited layer, along the way from the base's hidden state to the target.

The residual is spread over the layers in equal parts (MEMIT, arXiv 2210.07229, section 4.3), each part being what is
still lacking behind the top edited layer once the parts of the layers below are in. MEMIT measures that on a model
whose lower layers have been edited with *all* edits of the batch. Here each edit's own parts are put into the hidden
state instead. So keys and residuals of an edit depend on the edit and the base alone: solving is linear, layers are
solved independently, and neither the order of edits nor which others are there can matter.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memedit.consolidation.batch import PreparedBatch
from memedit.consolidation.optimise import mean_by
from memedit.consolidation.site import EditSite
from memedit.models.hooks import capture
from memedit.models.segments import Inputs, Segments


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
        behind, state, seen = _run(segments, site, inputs, first=first, layer=layer, start=state)
        keys[layer] = _averaged(seen, batch)
        residuals[layer] = (wanted - _averaged(behind[:, 0], batch)) / left
        state = state + residuals[layer][batch.edit_of_row][:, None].to(state)
        first = layer + 1
    return LayerKeys(keys, residuals, hidden)


def _run(
    segments: Segments, site: EditSite, inputs: Inputs, *, first: int, layer: int, start: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run ``first`` to the top edited layer; return the states behind the top and behind ``layer``, and its keys."""
    name, block = site.module_name(layer), f"{site.spec.layers}.{layer}"
    with capture(segments.model, [name, block]) as seen:
        behind, _ = segments.hidden(inputs, first=first, last=site.layers[-1], start=start)
    return behind, seen.outputs[block][0], seen.inputs[name][0][:, 0]


def _averaged(values: Tensor, batch: PreparedBatch) -> Tensor:
    """Average ``[R, d]`` over the rows of each edit: ``[E, d]``, float32."""
    return mean_by(values.float(), batch.edit_of_row, batch.edits)
