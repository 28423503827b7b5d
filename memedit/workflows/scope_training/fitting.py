"""Fitting the head: deterministic by seed, resumed from the last checkpoint after a kill."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from memedit.types import FloatArray
from memedit.whole_files import write_whole
from memedit.workflows.scope_training.dataset import ExampleSet
from memedit.workflows.scope_training.network import Head, HeadSize, gather

Progress = Callable[[int, int], None]
_BUCKET = 20
"""Batches of similar length are cut from this many batches' worth of shuffled examples."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How the head is fitted. The learning rate rises linearly over a tenth of the steps and falls as a cosine."""

    epochs: int = 4
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    checkpoint_every: int = 200


def group_weights(groups: Sequence[str]) -> FloatArray:
    """Weigh examples so that a group of n counts like sqrt(n): small groups are not drowned by large files."""
    counts = Counter(groups)
    weights = np.array([1.0 / math.sqrt(counts[group]) for group in groups], np.float32)
    return weights / weights.mean()


def fit_head(
    examples: ExampleSet,
    weights: FloatArray,
    size: HeadSize,
    settings: FitSettings,
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress | None = None,
) -> Head:
    """Fit a head by weighted binary cross-entropy; continue from ``checkpoint`` where there is one."""
    torch.manual_seed(seed)
    head = Head(size)
    head.feature_mean.copy_(torch.from_numpy(examples.features.mean(0)))
    head.feature_scale.copy_(torch.from_numpy(examples.features.std(0) + 1e-3))
    optimizer = torch.optim.AdamW(head.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    plan = _plan(examples, settings, seed)
    done = _restore(checkpoint, head, optimizer)
    labels = torch.from_numpy(examples.label.astype(np.float32))
    weighing = torch.from_numpy(weights)
    loss_of = nn.BCEWithLogitsLoss(reduction="none")
    for step in range(done, len(plan)):
        torch.manual_seed(seed + step + 1)  # dropout of a step does not depend on where the run was resumed
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, len(plan))
        numbers = plan[step]
        loss = (loss_of(head(gather(examples, numbers)), labels[numbers]) * weighing[numbers]).sum()
        optimizer.zero_grad()
        (loss / weighing[numbers].sum()).backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % settings.checkpoint_every == 0:
            _save(checkpoint, head, optimizer, step + 1)
        if progress is not None:
            progress(step + 1, len(plan))
    return head.eval()


def logits_of(head: Head, examples: ExampleSet, *, batch_size: int = 512) -> FloatArray:
    """Return the head's logits ``[N]``."""
    out = [np.zeros(0, np.float32)]
    with torch.inference_mode():
        for start in range(0, len(examples), batch_size):
            numbers = np.arange(start, min(start + batch_size, len(examples)))
            out.append(head(gather(examples, numbers)).numpy())
    return np.concatenate(out)


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) + 1e-3


def _plan(examples: ExampleSet, settings: FitSettings, seed: int) -> list[np.ndarray]:
    """Return the example numbers of every step of the run."""
    rng = np.random.default_rng(seed)
    lengths = np.diff(examples.query_extra_start) + np.diff(examples.edit_extra_start)
    plan: list[np.ndarray] = []
    for _ in range(settings.epochs):
        order = rng.permutation(len(examples))
        for start in range(0, len(order), settings.batch_size * _BUCKET):
            chunk = order[start : start + settings.batch_size * _BUCKET]
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches = [chunk[i : i + settings.batch_size] for i in range(0, len(chunk), settings.batch_size)]
            plan += [batches[i] for i in rng.permutation(len(batches))]
    return plan


def _save(path: Path, head: Head, optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["step"] = torch.tensor(step)
    solid = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_whole(path, lambda partial: save_file(solid, partial))


def _restore(path: Path, head: Head, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint into ``head`` and ``optimizer``; return how many steps it has done (0: there is none)."""
    if not path.is_file():
        return 0
    tensors = load_file(path)
    head.load_state_dict({n.removeprefix("head."): t for n, t in tensors.items() if n.startswith("head.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, field = name.split(".", 2)
            state.setdefault(int(number), {})[field] = tensor
    described = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": described["param_groups"]})
    return int(tensors["step"])
