"""The loop that all trained parts share: its schedule, its end, and that a killed run goes on as it would have."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from memedit.training.checkpoints import Checkpoints, run_key
from memedit.training.loop import FitProgress, Schedule, fit


class Line:
    """Fits a line's slope with Adam, a made-up point a step."""

    def __init__(self, steps: int) -> None:
        self.schedule = Schedule(steps, warmup=2)
        self.parameters = {"slope": nn.Parameter(torch.zeros(1))}
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=0.5)
        self.rates: list[float] = []

    def step(self, number: int) -> float:
        at = float(torch.rand(1, generator=torch.Generator().manual_seed(number)))
        loss = (self.parameters["slope"] * at - 3.0 * at).square().sum()
        self.optimizer.zero_grad()
        torch.autograd.backward([loss])
        self.optimizer.step()
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return float(loss.detach())


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Schedule(4), [1.0, 0.05 + 0.95 * (1 + math.sqrt(0.5)) / 2, 0.525, 0.05 + 0.95 * (1 - math.sqrt(0.5)) / 2]),
        (Schedule(4, warmup=2, start=2), [0.5, 1.0, 1.0, 0.525]),
        (Schedule(3, warmup=2, start=2, hold=2.0, floor=0.0), [1.0, 2.0, 1.0]),
        (Schedule(2, floor=0.1), [1.0, 0.55]),
    ],
)
def test_the_rate_warms_up_holds_and_falls_along_a_cosine(schedule: Schedule, wanted: list[float]) -> None:
    assert [schedule(step) for step in range(schedule.steps)] == pytest.approx(wanted)
    assert schedule(schedule.steps) == pytest.approx(schedule.floor)


def test_rates_are_the_peaks_times_the_schedule() -> None:
    line = Line(5)
    fit(line)
    assert line.rates == [0.5 * line.schedule(step) for step in range(5)]


def test_a_killed_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    whole, seen = Line(9), list[FitProgress[float]]()
    losses = fit(whole)
    checkpoints = Checkpoints(tmp_path, run_key(seed=0), every=2)

    def kill(state: FitProgress[float]) -> None:
        if state.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Line(9), checkpoints=checkpoints, progress=kill)
    second = Line(9)
    assert fit(second, checkpoints=checkpoints, progress=seen.append) == losses[4:]
    assert torch.equal(second.parameters["slope"], whole.parameters["slope"])
    assert [(state.stage, state.step, state.steps) for state in seen] == [("train", n, 9) for n in range(5, 10)]
    assert seen[-1].seconds_left == 0.0
    assert fit(Line(9), checkpoints=Checkpoints(tmp_path, run_key(seed=0), 2, resume=False)) == losses
    checkpoints.remove()
    assert not list(tmp_path.iterdir())


def test_training_ends_when_it_is_good_enough() -> None:
    line = Line(50)
    losses = fit(line, until=lambda loss: loss < 1.0)
    assert losses[-1] < 1.0 <= min(losses[:-1])
    assert len(losses) < 50
