"""WISE (arXiv 2405.14768): edits go into a side memory, shards of which are merged; its activation routes prompts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.adapters.side_memory.site import SideSite
from memedit.errors import InputError
from memedit.types import Edit


@dataclass(frozen=True, slots=True)
class WiseSettings:
    """The published settings (Llama-2-7B, layer 27 of 32): WISE-Merge.

    Args:
        shards: the stream is cut into so many parts, each with a memory of its own until they are merged.
        mask: share of a memory's entries, drawn at random, that a shard may write.
        steps: of gradient descent for each edit.
        learning_rate: of descent.
        margins: the activation that prompts no edit is about stay below, that which an edit exceeds, and what lies
            between the two (alpha, beta, gamma).
        clamp: longest change of an entry.
        density: share of a shard's entries that merging keeps (TIES, arXiv 2306.01708).
        slack: a prompt is routed to the memory from this share of the least activation of an edit on.
        stop_loss: an edit whose loss is below it is finished; ours, for speed.
        seed: of the masks.
    """

    shards: int = 2
    mask: float = 0.2
    steps: int = 70
    learning_rate: float = 1.0
    margins: tuple[float, float, float] = (5.0, 20.0, 10.0)
    clamp: float = 1.0
    density: float = 0.53
    slack: float = 0.88
    stop_loss: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        shares = all(0 < share <= 1 for share in (self.mask, self.density))
        if not shares or self.shards < 1 or self.steps < 1 or min(self.learning_rate, self.clamp) <= 0:
            raise InputError(f"WISE's settings are out of range: {self}")


@dataclass(frozen=True, slots=True)
class WiseMemory:
    """The merged memory, and the activation from which on a prompt is routed to it."""

    module: str
    change: Tensor
    threshold: float

    def of_edits(self, edits: Sequence[Edit]) -> Tensor:
        """Return gates that let everything through ``[n, d_in]``."""
        return self.change.new_ones(len(edits), self.change.shape[1])

    def routed(self, prompts: Sequence[Tensor]) -> Tensor:
        """Return ones where a prompt's activation is above the threshold, else zeros."""
        above = [float(activation(self.change, prompt)) > self.threshold for prompt in prompts]
        return self.change.new_tensor(above)[:, None].expand(-1, self.change.shape[1])


def activation(change: Tensor, prompt: Tensor) -> Tensor:
    """Return how far memory and weight are apart on a prompt's tokens ``[t, d_in]``, on average (equation 2)."""
    return (prompt.to(change) @ change.T).norm(dim=1).mean()


@torch.inference_mode(False)
@torch.enable_grad()
def train_wise(site: SideSite, edits: Sequence[Edit], settings: WiseSettings) -> WiseMemory:
    """Write edits one after another, each shard of them into a memory of its own, and merge the memories."""
    width, size = site.others[0].shape[1], site.segments.spec.hidden_size
    generator = torch.Generator().manual_seed(settings.seed)
    least, memories = float("inf"), []
    count = -(-len(edits) // settings.shards)
    for part in (edits[at : at + count] for at in range(0, len(edits), max(count, 1))):
        mask = (torch.rand(size, width, generator=generator) < settings.mask).to(site.others[0])
        change = torch.zeros_like(mask)
        for edit in part:
            change, active = _written(site, change, mask, edit, settings)
            least = min(least, active)
        memories.append(change)
    merged = merge(memories, settings.density) if memories else torch.zeros(size, width)
    return WiseMemory(site.module, merged, settings.slack * least)


def _written(site: SideSite, change: Tensor, mask: Tensor, edit: Edit, settings: WiseSettings) -> tuple[Tensor, float]:
    """Return the memory with an edit written into it, and the edit's activation; its content draws the other prompt."""
    row, other = site.row(edit), random.Random(edit.content_hash).choice(site.others)
    every = torch.ones_like(change[0])
    for _ in range(settings.steps):
        leaf = change.clone().requires_grad_()
        routing = apart(activation(leaf, row.prompt), activation(leaf, other), settings.margins)
        loss = site.loss(row, leaf, every) + routing
        if float(loss.detach()) < settings.stop_loss:
            break
        (gradient,) = torch.autograd.grad(loss, leaf)
        change = change - settings.learning_rate * mask * gradient
        change = change.clamp(-settings.clamp, settings.clamp)
    return change, float(activation(change, row.prompt))


def apart(edit: Tensor, other: Tensor, margins: tuple[float, float, float]) -> Tensor:
    """Return the routing loss of an edit's activation and another prompt's (equation 3)."""
    below, above, between = margins
    return (other - below).clamp(min=0) + (above - edit).clamp(min=0) + (between - (edit - other)).clamp(min=0)


def merge(memories: Sequence[Tensor], density: float) -> Tensor:
    """Merge changes by TIES (arXiv 2306.01708): trim each, elect a sign for each entry, average what agrees with it."""
    kept = []
    for memory in memories:
        count = max(1, round(density * memory.numel()))
        least = memory.abs().flatten().topk(count).values[-1]
        kept.append(memory * (memory.abs() >= least))
    stacked = torch.stack(kept)
    agrees = (stacked.sign() == stacked.sum(0).sign()) & (stacked != 0)
    return (stacked * agrees).sum(0) / agrees.sum(0).clamp(min=1)
