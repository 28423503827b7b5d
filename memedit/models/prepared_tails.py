"""Rows of tokens cut in two: what never changes is run once, the tails as often as one likes.

Where something is added to the model from a column on (the last token of a prompt, say), keys and values of the tokens
in front of it, and hidden states below the first layer it is added to, stay what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.models.segments import Inputs, Segments, pad_left, pad_right


@dataclass(frozen=True, slots=True)
class TailRow:
    """One row: ``prefix`` is what comes in front of the cut, ``tail`` what comes behind it.

    The tokens ``targets`` are predicted at tail positions ``scored .. scored + len(targets) - 1``.
    """

    prefix: tuple[int, ...]
    tail: tuple[int, ...]
    scored: int
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prefix) + len(self.tail)

    @classmethod
    def of(cls, query: Sequence[int], answer: Sequence[int]) -> "TailRow":
        """Return the row of a query and its answer, cut in front of the query's last token."""
        return cls(tuple(query[:-1]), (query[-1], *answer[:-1]), 0, tuple(answer))


@dataclass(frozen=True, slots=True)
class PreparedTails:
    """Tails ready for the layers from ``first`` on.

    ``inputs`` are the tails ``[R, t]`` with the keys and values in front of them, ``start`` ``[R, t, d_model]`` their
    hidden states in front of layer ``first``; ``places`` rows and positions ``[n]`` at which the tokens ``wanted``
    ``[n]`` are predicted.
    """

    first: int
    inputs: Inputs
    start: Tensor
    places: tuple[Tensor, Tensor]
    wanted: Tensor

    def logits(self, segments: Segments) -> Tensor:
        """Run the layers from ``first`` on; return the logits ``[n, vocabulary]`` that predict ``wanted``."""
        return segments.logits(self.inputs, self.places, first=self.first, start=self.start)

    def losses(self, segments: Segments) -> Tensor:
        """Return each row's mean negative log-likelihood of its targets ``[R]``, in nats a token."""
        found = torch.nn.functional.cross_entropy(self.logits(segments).float(), self.wanted, reduction="none")
        rows, count = self.places[0], len(self.start)
        sums = torch.zeros(count, dtype=found.dtype, device=found.device).index_add(0, rows, found)
        return sums / torch.bincount(rows, minlength=count)

    def rows(self, keep: Tensor) -> "PreparedTails":
        """Return the rows ``keep`` ``[k]`` (ascending), as wide as they need."""
        place = torch.full((len(self.start),), -1, device=keep.device)
        place[keep] = torch.arange(len(keep), device=keep.device)
        scored = place[self.places[0]] >= 0
        width = int(self.places[1][scored].max()) + 1
        past = self.inputs.mask.shape[1] - self.inputs.ids.shape[1]
        kept = self.inputs.rows(keep)
        inputs = Inputs(kept.ids[:, :width], kept.positions[:, :width], kept.mask[:, : past + width], kept.past)
        places = (place[self.places[0][scored]], self.places[1][scored])
        return PreparedTails(self.first, inputs, self.start[keep, :width], places, self.wanted[scored])


@torch.no_grad()
def prepare_tails(segments: Segments, rows: Sequence[TailRow], *, first: int, pad: int) -> PreparedTails:
    """Run the prefixes whole, and the tails up to layer ``first``."""
    device = segments.model.device
    ids, mask = pad_right([row.tail for row in rows], pad)
    ids, mask = ids.to(device), mask.to(device)
    lengths = torch.tensor([len(row.prefix) for row in rows], device=device)
    past = None
    if int(lengths.max()):
        front, known = pad_left([row.prefix for row in rows], pad)
        front, known = front.to(device), known.to(device)
        _, past = segments.hidden(Inputs(front, (known.cumsum(1) - 1).clamp(min=0), known), keep=True)
        mask = torch.cat([known, mask], 1)
    inputs = Inputs(ids, lengths[:, None] + torch.arange(ids.shape[1], device=device), mask, past)
    start, _ = segments.hidden(inputs, last=first - 1)
    numbers = [i for i, row in enumerate(rows) for _ in row.targets]
    positions = [row.scored + j for row in rows for j in range(len(row.targets))]
    wanted = torch.tensor([token for row in rows for token in row.targets], device=device)
    places = (torch.tensor(numbers, device=device), torch.tensor(positions, device=device))
    return PreparedTails(first, inputs, start, places, wanted)
