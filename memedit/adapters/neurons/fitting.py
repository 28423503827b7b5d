"""The values of located neurons that make targets likely, many edits at once, each on its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.adapters.neurons.config import NeuronConfig
from memedit.models.mixture_hooks import Placement
from memedit.models.neuron_hooks import inputs_raised
from memedit.models.prepared_tails import PreparedTails
from memedit.models.segments import Segments

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
"""Adam's decay rates and its epsilon (arXiv 1412.6980)."""


@dataclass(frozen=True, slots=True)
class Located:
    """Neurons of E edits in L layers: ``modules`` ``L`` names, ``which`` ``[E, L, k]``, the layers' ``scale`` ``[L]``
    (root mean square activation) and their ``width``.
    """

    modules: tuple[str, ...]
    which: Tensor
    scale: Tensor
    width: int

    def dense(self, values: Tensor, edits: Tensor) -> Tensor:
        """Return ``values`` ``[n, L, k]`` of the edits at places ``edits`` ``[n]`` as ``[n, L, width]``."""
        empty = values.new_zeros((len(edits), len(self.modules), self.width))
        return empty.scatter(2, self.which[edits], values * self.scale[:, None])


def fit_values(
    segments: Segments, tails: PreparedTails, owner: Tensor, located: Located, config: NeuronConfig
) -> Tensor:
    """Minimise, for each edit, its rows' mean negative log-likelihood plus ``decay * |u|**2`` (LU-LAFN) by Adam.

    Args:
        segments: the frozen model.
        tails: the rows of all edits.
        owner: the edit of each row ``[R]``.
        located: the edits' neurons.
        config: steps and their length.

    Returns:
        what is added to each located neuron ``[E, L, k]``, in activations. Finished edits leave the batch.
    """
    state = _Adam(located.which.shape, config.learning_rate, owner.device)
    live = torch.arange(len(located.which), device=owner.device)
    now_tails, now_owner = tails, owner
    for step in range(config.steps):
        values = state.values[live].requires_grad_()
        losses = _losses(segments, now_tails, located.dense(values, live)[now_owner], located.modules)
        mine = losses.new_zeros(len(live)).index_add(0, now_owner, losses)
        mine = mine / torch.bincount(now_owner, minlength=len(live))
        going = mine.detach() >= config.stop_loss
        if not bool(going.any()):
            break
        (gradient,) = torch.autograd.grad(mine.sum() + config.decay * values.square().sum(), values)
        state.take(live[going], gradient[going], step + 1)
        if not bool(going.all()):
            live = live[going]
            place = torch.full((len(located.which),), -1, device=owner.device)
            place[live] = torch.arange(len(live), device=owner.device)
            keep = (place[owner] >= 0).nonzero()[:, 0]
            now_tails, now_owner = tails.rows(keep), place[owner[keep]]
    return state.values * located.scale[:, None]


def _losses(segments: Segments, tails: PreparedTails, raised: Tensor, modules: Sequence[str]) -> Tensor:
    count = len(raised)
    place = Placement(tuple(range(count)), (0,) * count, count, tails.inputs.ids.shape[1])
    with inputs_raised(segments.model, {name: raised[:, i] for i, name in enumerate(modules)}, place):
        return tails.losses(segments)


class _Adam:
    """Adam on the values of edits that may stop at different steps."""

    def __init__(self, shape: Sequence[int], rate: float, device: torch.device) -> None:
        self.values = torch.zeros(shape, device=device)
        self._rate, self._mean, self._square = rate, self.values.clone(), self.values.clone()

    def take(self, edits: Tensor, gradient: Tensor, step: int) -> None:
        """Take step number ``step`` for the edits at these places."""
        self._mean[edits] = _FIRST * self._mean[edits] + (1 - _FIRST) * gradient
        self._square[edits] = _SECOND * self._square[edits] + (1 - _SECOND) * gradient.square()
        mean = self._mean[edits] / (1 - _FIRST**step)
        root = (self._square[edits] / (1 - _SECOND**step)).sqrt()
        self.values[edits] -= self._rate * mean / (root + _TINY)
