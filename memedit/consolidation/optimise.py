"""The target of each edit: a vector to add at the edited position so that the target's tokens become likely.

MEMIT, arXiv 2210.07229, equation 16: for each edit ``delta`` minimises the mean negative log-likelihood of the target
over contexts, plus ``kl_factor`` times the KL divergence of what follows the subject, plus weight decay.

Unlike MEMIT, which uses Adam, every step has a fixed length and goes straight down the natural gradient
(:mod:`memedit.consolidation.sensitivity`). The way to a likely target is short and the gradient turns little on it, so
momentum overshoots, and Adam's steps, equally long in every coordinate, spend most of their length where nothing is to
be gained. On SmolLM2-135M the vectors come out half as long in two thirds of the steps, and the shorter they are, and
the less the model's other predictions hang on where they point, the less harm the weights do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.batch import PreparedBatch
from memedit.models.segments import Segments


@dataclass(frozen=True, slots=True)
class Targets:
    """What came out for each edit of a batch: ``delta`` ``[E, d_model]``, losses in nats a token ``[E]``, steps."""

    delta: Tensor
    initial_loss: Tensor
    final_loss: Tensor
    steps: Tensor


class _Live:
    """The edits of a batch that are still being optimised."""

    def __init__(self, batch: PreparedBatch, keep: Tensor) -> None:
        """``keep`` are the places of the edits in the batch, ascending."""
        device = batch.top.device
        place = torch.full((batch.edits,), -1, device=device)
        place[keep] = torch.arange(len(keep), device=device)
        chosen = (place[batch.edit_of_row] >= 0).nonzero()[:, 0]
        row_place = torch.full((len(batch.edit_of_row),), -1, device=device)
        row_place[chosen] = torch.arange(len(chosen), device=device)
        scored = row_place[batch.places[0]] >= 0
        width = int(batch.places[1][scored].max()) + 1  # longer tails may have left
        past = batch.tail.mask.shape[1] - batch.tail.ids.shape[1]
        tail = batch.tail.rows(chosen)
        self.edit_of_row = place[batch.edit_of_row[chosen]]
        self.tail = type(tail)(tail.ids[:, :width], tail.positions[:, :width], tail.mask[:, : past + width], tail.past)
        self.top = batch.top[chosen, :width]
        self.rows, self.positions = row_place[batch.places[0][scored]], batch.places[1][scored]
        self.wanted = batch.wanted[scored]
        free = batch.free[keep]
        self.free = free.nonzero()[:, 0]
        self.free_rows = row_place[batch.first_rows[keep][free]]
        self.count = len(keep)

    def losses(self, segments: Segments, delta: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood ``[E]`` and log-probabilities behind the subject ``[F, V]``."""
        start = torch.cat([self.top[:, :1] + delta[self.edit_of_row][:, None].to(self.top), self.top[:, 1:]], 1)
        rows = torch.cat([self.rows, self.free_rows])
        positions = torch.cat([self.positions, torch.zeros_like(self.free_rows)])
        logits = segments.logits(self.tail, (rows, positions), first=first, start=start).float()
        count = len(self.wanted)
        loss = torch.nn.functional.cross_entropy(logits[:count], self.wanted, reduction="none")
        return self._per_edit(loss), logits[count:].log_softmax(-1)

    def _per_edit(self, loss: Tensor) -> Tensor:
        """Average over a row's tokens, then over an edit's rows."""
        rows = len(self.edit_of_row)
        of_row = mean_by(loss, self.rows, rows)
        return mean_by(of_row, self.edit_of_row, self.count)


def mean_by(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Average the rows of ``values`` ``[n, ...]`` that belong to the same of ``count`` groups."""
    sums = torch.zeros((count, *values.shape[1:]), dtype=values.dtype, device=values.device)
    sizes = torch.bincount(groups, minlength=count).to(values)
    return sums.index_add(0, groups, values) / sizes.reshape(-1, *[1] * (values.dim() - 1))


def optimise(
    segments: Segments,
    batch: PreparedBatch,
    top: int,
    settings: ConsolidationSettings,
    natural: Tensor | None = None,
) -> Targets:
    """Optimise all edits of a batch at once, each on its own: finished edits leave the batch.

    Args:
        segments: the model.
        batch: prepared rows.
        top: the top edited layer; only layers above it run.
        settings: length and number of steps, and weights of the terms.
        natural: what makes a gradient a natural one ``[d_model, d_model]``; None leaves it as it is.
    """
    device = batch.top.device
    norms = mean_by(batch.top[:, 0].float().norm(dim=-1), batch.edit_of_row, batch.edits)  # |h|, [E]
    width = batch.top.shape[-1]
    natural = None if natural is None else natural.to(device)
    delta = torch.zeros((batch.edits, width), device=device)
    initial = torch.zeros(batch.edits, device=device)
    final, steps = torch.zeros_like(initial), torch.zeros(batch.edits, dtype=torch.long, device=device)
    keep = torch.arange(batch.edits, device=device)
    live = _Live(batch, keep)
    base: Tensor | None = None
    for step in range(1, settings.steps + 1):
        now = delta[keep].requires_grad_()
        loss, predicted = live.losses(segments, now, top + 1)
        if base is None:
            base = predicted.detach()
            initial[keep] = loss.detach()
        final[keep] = loss.detach()
        going = loss.detach() >= settings.stop_loss
        if step == settings.steps or not bool(going.any()):
            break
        divergence = (base.exp() * (base - predicted)).sum(-1).sum() if len(base) else loss.new_zeros(())
        decay = (torch.linalg.vector_norm(now, dim=-1) / norms[keep] ** 2).sum()
        total = loss.sum() + settings.kl_factor * divergence + settings.weight_decay * decay
        (gradient,) = torch.autograd.grad(total, now)
        if not bool(going.all()):
            base = base[going[live.free]]
            gradient, keep = gradient[going], keep[going]
            live = _Live(batch, keep)
        gradient = gradient if natural is None else gradient @ natural
        length = torch.linalg.vector_norm(gradient, dim=-1).clamp(min=1e-12)
        rate = settings.warm_start if step == 1 and settings.warm_start else settings.learning_rate
        change = gradient * (rate * norms[keep] / length)[:, None]
        delta[keep] = _clamped(delta[keep] - change, settings.clamp * norms[keep])
        steps[keep] += 1
    return Targets(delta, initial, final, steps)


def _clamped(delta: Tensor, longest: Tensor) -> Tensor:
    length = delta.norm(dim=-1)
    return delta * (longest / length.clamp(min=1e-12)).clamp(max=1.0)[:, None]
