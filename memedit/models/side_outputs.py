"""A second matrix beside a module's weight, let through by what the module is fed at a row's prompt.

Like :mod:`memedit.models.hooks`, everything here is a context manager that takes its hooks away again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import UnsupportedModelError
from memedit.models.hooks import _module
from memedit.models.mixture_hooks import Placement, _Columns, columns_from

Gate = Callable[[Sequence[Tensor]], Tensor]
"""From what the module was fed at the tokens of each row's prompt, ``n`` tensors ``[t, d_in]``, which of its inputs the
second matrix reads on each row ``[n, d_in]``, by what factor; a row of zeros is left as it is."""


@contextmanager
def side_output(model: nn.Module, name: str, change: Tensor, placement: Placement, gate: Gate) -> Iterator[None]:
    """Add ``change @ (gate * x)`` to the output of module ``name`` on the rows of ``placement``, from their starts on.

    The gate is asked once for every sequence, about the columns from a row's start to its ``asked`` one, which have to
    be fed in one piece; what it says holds through decoding. Rows that it leaves alone, and rows that are not named,
    stay bit for bit. A call of at least ``placement.length`` tokens starts again from column 0.

    Args:
        model: the model.
        name: the module, a linear map.
        change: ``[d_out, d_in]``, whatever the orientation of the module's own weight.
        placement: the rows, where each starts and where it is asked.
        gate: see :data:`Gate`.

    Raises:
        UnsupportedModelError: the module does not exist, folds rows together, or a prompt comes in several pieces.
    """
    if not placement.rows:
        yield
        return
    columns = _Columns(placement.length)
    held = _Held(placement, gate)

    def hook(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.dim() != 3 or output.shape[0] % placement.batch:
            raise UnsupportedModelError(f"{name} folds rows together: its output has shape {tuple(output.shape)}")
        first, count = columns.first(output.shape[1]), output.shape[0]
        if first == 0:
            held.ask(args[0], name)
        where, gates, acted = held.rows(count)
        if not acted.rows:
            return output
        terms = nn.functional.linear(args[0][where] * gates.unsqueeze(1), change.to(output))
        if first < max(acted.starts):
            terms = terms * columns_from(acted, first, output.shape[1], count, output)
        return output.index_add(0, where, terms)

    handle = _module(model, name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _Held:
    """What the gate said of the rows that a batch holds."""

    def __init__(self, placement: Placement, gate: Gate) -> None:
        self._placement, self._gate = placement, gate
        self._acted, self._gates = Placement((), (), placement.batch, placement.length), torch.zeros(0, 0)

    def ask(self, fed: Tensor, name: str) -> None:
        """Ask the gate about all rows, from what the module was fed ``[B, t, d_in]``."""
        place = self._placement
        ends = place.asked or place.starts
        if fed.shape[1] <= max(ends):
            raise UnsupportedModelError(f"{name} was fed a prompt in pieces; its gate has to see the whole of it")
        repeats = fed.shape[0] // place.batch
        spans = zip(place.rows, place.starts, ends, strict=True)
        gates = self._gate([fed[row * repeats, start : end + 1] for row, start, end in spans]).to(fed)
        on = gates.any(1).nonzero()[:, 0].tolist()
        rows, starts = tuple(place.rows[i] for i in on), tuple(place.starts[i] for i in on)
        self._acted, self._gates = Placement(rows, starts, place.batch, place.length), gates[on]

    def rows(self, count: int) -> tuple[Tensor, Tensor, Placement]:
        """Return the rows of a tensor of ``count`` rows that are acted on, their gates, and their placement."""
        repeats = count // self._acted.batch
        device = self._gates.device
        rows = torch.tensor(self._acted.rows, dtype=torch.long, device=device).repeat_interleave(repeats)
        copies = torch.arange(repeats, device=device).repeat(len(self._acted.rows))
        return rows * repeats + copies, self._gates.repeat_interleave(repeats, dim=0), self._acted
