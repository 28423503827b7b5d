"""Values added to MLP neurons of live modules, apart for every row of a batch.

A neuron is a coordinate of what the MLP's down-projection reads: ``silu(gate(x)) * up(x)`` in a Llama, the activation
in a GPT-2. Like :mod:`memedit.models.hooks`, everything here is a context manager that takes its hooks away again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from memedit.errors import UnsupportedModelError
from memedit.models.hooks import ChosenRows, _module
from memedit.models.mixture_hooks import Placement, _Columns, columns_from


@contextmanager
def inputs_raised(model: nn.Module, values: Mapping[str, Tensor], placement: Placement) -> Iterator[None]:
    """Add to what modules are fed on the rows of ``placement``, from each row's start on; other rows stay bit for bit.

    ``values`` are by module name ``[n, d_in]``, one row of them for each of the placement's ``n`` rows; they may
    require gradients. Steps with a key-value cache and prompts fed in chunks count on from the last call; a call of at
    least ``placement.length`` tokens starts again from column 0.

    Raises:
        InputError: rows lie outside the batch.
        UnsupportedModelError: a module does not exist, or folds rows together.
    """
    selection = ChosenRows(placement.rows, placement.batch)
    if not placement.rows:
        yield
        return
    with ExitStack() as stack:
        for name, own in values.items():
            hook = _raising_hook(name, own, placement, selection)
            stack.callback(_module(model, name).register_forward_pre_hook(hook).remove)
        yield


def _raising_hook(
    name: str, values: Tensor, placement: Placement, selection: ChosenRows
) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
    columns = _Columns(placement.length)
    earliest, latest = min(placement.starts), max(placement.starts)

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        fed: Tensor = args[0]
        if fed.dim() != 3:
            raise UnsupportedModelError(f"{name} folds rows together: its input has shape {tuple(fed.shape)}")
        count, width = fed.shape[0], fed.shape[1]
        first = columns.first(width)
        if first + width <= earliest:
            return None
        repeats = count // placement.batch
        own = values.repeat_interleave(repeats, dim=0) if repeats > 1 else values
        terms = own.to(fed).unsqueeze(1).expand(-1, width, -1)
        if first < latest:
            terms = terms * columns_from(placement, first, width, count, fed)
        index = selection.indices(count, fed.device)
        raised = fed + terms if index is None else fed.index_add(0, index, terms)
        return (raised, *args[1:])

    return hook
