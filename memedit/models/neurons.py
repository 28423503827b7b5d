"""MLP neurons of a causal LM: where they are, how active they are, and how much an answer hangs on them.

A neuron is a coordinate of what the MLP's down-projection reads; neuron ``i`` writes column ``i`` of its weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.errors import InputError, UnsupportedModelError
from memedit.models.hooks import capture
from memedit.models.mixture_hooks import Placement
from memedit.models.neuron_hooks import inputs_raised
from memedit.models.prepared_tails import TailRow, prepare_tails
from memedit.models.segments import Inputs, Segments, frozen, pad_left
from memedit.models.spec import ModelSpec


def neuron_modules(spec: ModelSpec, layers: Sequence[int]) -> tuple[str, ...]:
    """Return the paths of the modules that read the neurons of ``layers``.

    Raises:
        UnsupportedModelError: a layer has no single down-projection.
        InputError: a layer does not exist.
    """
    if spec.mlp_down is None:
        raise UnsupportedModelError(
            f"{spec.family} layers have no single MLP down-projection (a mixture of experts?), so there is no one row "
            "of neurons to work on; use another adapter"
        )
    wrong = [layer for layer in layers if not 0 <= layer < spec.n_layers]
    if wrong or not layers:
        raise InputError(f"layers {list(layers)}: choose at least one of 0 to {spec.n_layers - 1}")
    return tuple(f"{spec.layers}.{layer}.{spec.mlp_down.path}" for layer in layers)


def late_layer(spec: ModelSpec) -> int:
    """Return the layer that GRACE, WISE and MEMOIR write beside: number 27 of a Llama's 0 to 31, by depth."""
    return round((spec.n_layers - 1) * 27 / 31)


@torch.no_grad()
def last_activations(segments: Segments, layers: Sequence[int], rows: Sequence[Sequence[int]], *, pad: int) -> Tensor:
    """Return the neurons' activations at the last token of each row of ids, ``[R, len(layers), d_in]``, float32.

    Layers above the highest asked for do not run.
    """
    names = neuron_modules(segments.spec, layers)
    ids, mask = (tensor.to(segments.model.device) for tensor in pad_left(rows, pad))
    inputs = Inputs(ids, (mask.cumsum(1) - 1).clamp(min=0), mask)
    with capture(segments.model, names, outputs=False) as seen:
        segments.hidden(inputs, last=max(layers))
    return torch.stack([seen.inputs[name][0][:, -1].float() for name in names], 1)


@dataclass(frozen=True, slots=True)
class TokenAsked:
    """One token as it is predicted: ``ids`` are all tokens in front of it, ``token`` what is asked for."""

    ids: tuple[int, ...]
    token: int


class NeuronScan:
    """The neurons of all layers at the last token of one text, and what hangs on them.

    Keys and values of the tokens in front, and hidden states at the last token in front of every layer, are computed
    once.

    Args:
        segments: the model; nothing of it is changed.
        asked: the text and the token whose probability counts.

    Raises:
        UnsupportedModelError: a layer has no single down-projection.
    """

    def __init__(self, segments: Segments, asked: TokenAsked) -> None:
        self._segments, self._token = segments, asked.token
        spec = segments.spec
        self.modules = neuron_modules(spec, range(spec.n_layers))
        device = segments.model.device
        tail = TailRow((*asked.ids[:-1],), asked.ids[-1:], 0, (asked.token,))
        tails = prepare_tails(segments, [tail], first=0, pad=0)
        self._inputs = tails.inputs
        layers = [f"{spec.layers}.{layer}" for layer in range(spec.n_layers - 1)]
        with torch.no_grad(), capture(segments.model, (*self.modules, *layers)) as seen:
            found = segments.logits(self._inputs, tails.places, first=0, start=tails.start)
        self.probability = float(found[0].float().softmax(-1)[asked.token])
        """Of the token, the model untouched."""
        self.activations = torch.stack([seen.inputs[name][0][0, -1] for name in self.modules])
        """``[n_layers, d_in]``, in the model's dtype."""
        self._starts = [tails.start, *(seen.outputs[name][0] for name in layers)]
        self._device = device

    def attributions(self, steps: int) -> Tensor:
        """Return the integrated gradients of the token's probability ``[n_layers, d_in]``, float32 (KN, equation 2).

        ``Attr = w / m * sum_{k=1..m} dP(k/m * w)/dw`` with ``w`` a layer's activations, the layer scaled as a whole,
        the others as they come. Knowledge Neurons, arXiv 2104.08696.
        """
        share = torch.arange(1, steps + 1, device=self._device) / steps
        found = []
        for layer, own in enumerate(self.activations):
            added = ((share - 1.0)[:, None] * own.float()).requires_grad_()
            with torch.enable_grad():
                likely = self._probabilities(layer, {self.modules[layer]: added})
                (gradient,) = torch.autograd.grad(likely.sum(), added)
            found.append(own.float() * gradient.mean(0))
        return torch.stack(found)

    @torch.no_grad()
    def probability_with(self, factors: Tensor) -> float:
        """Return the token's probability when every activation is multiplied by its factor ``[n_layers, d_in]``."""
        changed = [layer for layer in range(len(factors)) if bool((factors[layer] != 1).any())]
        if not changed:
            return self.probability
        added = {self.modules[i]: ((factors[i] - 1) * self.activations[i].float())[None] for i in changed}
        return float(self._probabilities(changed[0], added)[0])

    def _probabilities(self, first: int, added: Mapping[str, Tensor]) -> Tensor:
        """Return the token's probability ``[n]`` with ``added`` ``[n, d_in]`` on layers from ``first`` on."""
        count = len(next(iter(added.values())))
        rows = torch.zeros(count, dtype=torch.long, device=self._device)
        places = (torch.arange(count, device=self._device), rows)
        placement = Placement(tuple(range(count)), (0,) * count, count, 1)
        with frozen(self._segments.model), inputs_raised(self._segments.model, added, placement):
            start = self._starts[first].expand(count, -1, -1)
            logits = self._segments.logits(self._inputs.rows(rows), places, first=first, start=start)
        return logits.float().softmax(-1)[:, self._token]
