"""Rows of a ``generate`` call that are held to structures, with their edits' targets mixed in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor

from memedit.runtime.structured.constraint import Constraint, masked
from memedit.runtime.target_bias import Prior, mixed


@dataclass(slots=True)
class Held:
    """What one answer is held to, and what its decoding is mixed with."""

    constraint: Constraint
    prior: Prior | None = None


class HoldingProcessor(LogitsProcessor):
    """Holds rows to structures; beams and samples of a row stand next to each other, and each is followed by itself.

    Args:
        makers: return what a row's answer is held to, at its beginning.
        width: columns of the prompt that was fed.
    """

    def __init__(self, makers: Sequence[Callable[[], Held]], width: int) -> None:
        self._makers, self._width = makers, width
        self._held: list[Held] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores ``[rows * repeats, v]``: what may not come is ruled out, then targets are mixed in."""
        if len(self._held) != scores.shape[0]:
            repeats = scores.shape[0] // len(self._makers)
            self._held = [make() for make in self._makers for _ in range(repeats)]
        said = input_ids[:, self._width :].tolist()
        rows = zip(scores, self._held, said, strict=True)
        kept = torch.stack([masked(row, held.constraint, ids) for row, held, ids in rows])
        return mixed(kept, [held.prior for held in self._held], said)
