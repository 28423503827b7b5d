"""MEMOIR (arXiv 2506.07899): a residual memory of which every edit may write the columns that its prompt hashes to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.adapters.side_memory.site import SideSite
from memedit.errors import InputError
from memedit.types import Edit


@dataclass(frozen=True, slots=True)
class MemoirSettings:
    """The published settings (Llama-3-8B, layer 27 of 32).

    Args:
        share: of the inputs that an edit may write at (4,096 of 14,336).
        match: share of its own inputs that a prompt has to have in common with an edit for that edit to act.
        steps: of gradient descent for each edit.
        learning_rate: of descent.
        stop_loss: an edit below it (nats a token) is finished; ours, for speed.
        seed: of the permutation.
    """

    share: float = 2 / 7
    match: float = 0.6
    steps: int = 30
    learning_rate: float = 1.0
    stop_loss: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        fine = 0 < self.share <= 1 and 0 <= self.match <= 1 and self.steps >= 1 and self.learning_rate > 0
        if not fine:
            raise InputError(f"MEMOIR's settings are out of range: {self}")


@dataclass(frozen=True, slots=True)
class Hash:
    """TopHash: the largest features of a prompt, sent elsewhere by a fixed permutation."""

    usual: Tensor
    """Mean feature ``[d_in]`` over prompts that no edit is about."""
    permutation: Tensor
    count: int

    def __call__(self, prompt: Tensor) -> Tensor:
        """Return the mask ``[d_in]`` (float, 0 or 1) of what the module is fed at a prompt's tokens ``[t, d_in]``."""
        top = (prompt.float().mean(0) - self.usual).abs().topk(self.count).indices
        return torch.zeros_like(self.usual).index_fill(0, self.permutation[top], 1.0)


@dataclass(frozen=True, slots=True)
class MemoirMemory:
    """The trained memory: its matrix, and the mask ``[d_in]`` of each edit by id."""

    module: str
    change: Tensor
    hash: Hash
    masks: dict[str, Tensor]
    match: float

    def of_edits(self, edits: Sequence[Edit]) -> Tensor:
        """Return the stored masks of these edits ``[n, d_in]``; zeros for edits that were never written."""
        return torch.stack([self.masks.get(edit.id, torch.zeros_like(self.hash.usual)) for edit in edits])

    def routed(self, prompts: Sequence[Tensor]) -> Tensor:
        """Return the stored mask nearest to each prompt's own, where they have enough in common, else zeros."""
        if not self.masks:
            return self.hash.usual.new_zeros(len(prompts), len(self.hash.usual))
        stored = torch.stack(list(self.masks.values()))
        common = torch.stack([self.hash(prompt) for prompt in prompts]) @ stored.T / self.hash.count
        best = common.max(1)
        return stored[best.indices] * (best.values >= self.match)[:, None]


@torch.inference_mode(False)
@torch.enable_grad()
def train_memoir(site: SideSite, edits: Sequence[Edit], settings: MemoirSettings) -> MemoirMemory:
    """Write edits into an empty memory one after another, each by descent on its own columns alone."""
    usual = torch.stack([fed.float().mean(0) for fed in site.others]).mean(0)
    generator = torch.Generator().manual_seed(settings.seed)
    permutation = torch.randperm(len(usual), generator=generator).to(usual.device)
    hashed = Hash(usual, permutation, max(1, round(settings.share * len(usual))))
    change = usual.new_zeros(site.segments.spec.hidden_size, len(usual))
    masks = {}
    for edit in edits:
        row = site.row(edit)
        masks[edit.id] = hashed(row.prompt)
        for _ in range(settings.steps):
            leaf = change.clone().requires_grad_()
            loss = site.loss(row, leaf, masks[edit.id])
            if float(loss.detach()) < settings.stop_loss:
                break
            (gradient,) = torch.autograd.grad(loss, leaf)
            change = change - settings.learning_rate * gradient
    return MemoirMemory(site.module, change, hashed, masks, settings.match)
