"""What a module puts out at one position of each row, replaced by vectors that its input there may choose.

Like :mod:`memedit.models.hooks`, everything here is a context manager that takes its hooks away again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import UnsupportedModelError
from memedit.models.hooks import _module
from memedit.models.mixture_hooks import Placement, _Columns

Choose = Callable[[Tensor, tuple[int, ...]], tuple[Tensor, Tensor]]
"""From the module's inputs ``[m, d_in]`` at the rows' positions, and the rows' places in the placement, which of them
are replaced ``[m]`` (bool) and by what ``[m, d_out]``."""


@contextmanager
def output_replaced(model: nn.Module, name: str, placement: Placement, choose: Choose) -> Iterator[None]:
    """Replace the output of module ``name`` at the start column of each row of ``placement``, and nowhere else.

    Rows that are not named, or not chosen, stay bit for bit. Steps with a key-value cache and prompts fed in chunks
    count on from the last call; a call of at least ``placement.length`` tokens starts again from column 0.

    Raises:
        UnsupportedModelError: the module does not exist, or folds rows together.
    """
    if not placement.rows:
        yield
        return
    columns = _Columns(placement.length)

    def hook(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.dim() != 3 or output.shape[0] % placement.batch:
            raise UnsupportedModelError(f"{name} folds rows together: its output has shape {tuple(output.shape)}")
        first = columns.first(output.shape[1])
        repeats = output.shape[0] // placement.batch
        places, rows, at = _positions(placement, first, output.shape[1], repeats)
        if not places:
            return output
        row, column = (torch.tensor(values, device=output.device) for values in (rows, at))
        taken, values = choose(args[0][row, column], tuple(places))
        if not bool(taken.any()):
            return output
        return output.index_put((row[taken], column[taken]), values[taken].to(output))

    handle = _module(model, name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _positions(placement: Placement, first: int, width: int, repeats: int) -> tuple[list[int], list[int], list[int]]:
    """Return places, tensor rows and columns of the starts that a call of ``width`` tokens from ``first`` on holds."""
    found = [
        (place, row * repeats + copy, start - first)
        for place, (row, start) in enumerate(zip(placement.rows, placement.starts, strict=True))
        if first <= start < first + width
        for copy in range(repeats)
    ]
    return [p for p, _, _ in found], [r for _, r, _ in found], [c for _, _, c in found]
