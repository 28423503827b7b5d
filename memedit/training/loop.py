"""The loop that fits every trained part: schedule, checkpoints, progress and report."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import nn

from memedit.training.checkpoints import Checkpoints

Loss = TypeVar("Loss")
Loss_co = TypeVar("Loss_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The factor on the peak learning rates: linear warm-up over ``warmup`` steps, then a cosine down to ``floor``.

    The cosine runs from step ``start`` to step ``steps`` (SGDR's, arXiv 1608.03983, without restarts); before
    ``start`` the factor is ``hold``. The warm-up multiplies whatever holds.
    """

    steps: int
    warmup: int = 0
    floor: float = 0.05
    start: int = 0
    hold: float = 1.0

    def __call__(self, step: int) -> float:
        """Return the factor at ``step``, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        if step < self.start:
            return warm * self.hold
        done = min(1.0, (step - self.start) / max(1, self.steps - self.start))
        return warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True, slots=True)
class FitProgress(Generic[Loss]):
    """How far a stage of training is; ``seconds_left`` is an estimate of the rest of the stage."""

    stage: str
    step: int
    steps: int
    loss: Loss
    seconds_left: float


@dataclass(frozen=True, slots=True)
class FitReport(Generic[Loss]):
    """What came out of training; ``losses`` holds one value a step run here (a resumed run's begin where it began)."""

    folder: Path
    steps: int
    examples: int
    seconds: float
    losses: tuple[Loss, ...]


class Trainer(Protocol[Loss_co]):
    """What the loop trains. The learning rates of ``optimizer``'s groups, as made, are the peaks of ``schedule``."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What is trained, by name."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Over just these parameters."""

    @property
    def schedule(self) -> Schedule:
        """How many steps, and the learning rates' factor at each."""

    def step(self, number: int) -> Loss_co:
        """Do one optimizer step and return its loss; its data depend on the seed and ``number`` (from 0) alone."""


def fit(
    trainer: Trainer[Loss],
    *,
    checkpoints: Checkpoints | None = None,
    progress: Callable[[FitProgress[Loss]], None] | None = None,
    stage: str = "train",
    until: Callable[[Loss], bool] | None = None,
) -> list[Loss]:
    """Train to the schedule's end, and return the loss of each step run here.

    The same seed, data and machine give the same weights, also through a kill and a resume.

    Args:
        trainer: what is trained.
        checkpoints: where the run is kept and gone on from; None keeps nothing.
        progress: called after every step.
        stage: what the steps are called in progress.
        until: ends training early when True for a step's loss.

    Raises:
        InputError: the checkpoint there belongs to another run, or is damaged.
        OSError: a checkpoint cannot be written.
    """
    peaks = [group["lr"] for group in trainer.optimizer.param_groups]
    first = 0 if checkpoints is None else checkpoints.load(trainer.parameters, trainer.optimizer)
    steps, losses, began = trainer.schedule.steps, list[Loss](), time.monotonic()
    for step in range(first, steps):
        factor = trainer.schedule(step)
        for group, peak in zip(trainer.optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        losses.append(trainer.step(step))
        if checkpoints is not None and checkpoints.is_due(step + 1, steps):
            checkpoints.save(step + 1, trainer.parameters, trainer.optimizer)
        if progress is not None:
            pace = (time.monotonic() - began) / (step + 1 - first)
            progress(FitProgress(stage, step + 1, steps, losses[-1], pace * (steps - step - 1)))
        if until is not None and until(losses[-1]):
            break
    return losses
