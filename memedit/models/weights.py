"""Changed weights on a live model, for a while or for good."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import UnsupportedModelError
from memedit.models.hooks import ChosenRows


@contextmanager
def weights_replaced(model: Any, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give parameters other values inside; on exit the very bytes from before are there again.

    ``weights`` are the new values by full parameter name, in the parameter's own shape and orientation.

    Raises:
        UnsupportedModelError: there is no such parameter, or its shape is another.
    """
    parameters = {name: _parameter(model, name, value) for name, value in weights.items()}
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        write_weights(model, weights)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])


@torch.no_grad()
def write_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Write new values into parameters, for good.

    Raises:
        UnsupportedModelError: there is no such parameter, or its shape is another; nothing is written then.
    """
    parameters = {name: _parameter(model, name, value) for name, value in weights.items()}
    for name, value in weights.items():
        parameters[name].copy_(value)


@dataclass(frozen=True, slots=True, eq=False)
class WeightOverlay:
    """Values for some of a model's parameters that stand in the place of its own for a pass, and are gone after it.

    Nothing is copied: parameters are pointed elsewhere and back, which takes microseconds, so passes of several
    versions can take turns on one model. Overlays are equal only to themselves.

    Args:
        values: by full parameter name, in the parameter's own shape, dtype and device.
    """

    values: Mapping[str, Tensor]

    @contextmanager
    def on_rows(self, model: Any, rows: Sequence[int], batch: int) -> Iterator[None]:
        """Let chosen rows of a batch of ``batch`` rows meet these values inside, and all others the model's own.

        The modules of these parameters are asked twice, once for all rows and once more for the chosen ones, whose
        outputs are put in place; nothing else of another row's output is touched, so it stays the same to the last bit.
        Where all rows are chosen this is :meth:`on`. A low-rank form would save nothing: the sum of many edits' changes
        has about as many ranks as the weight has rows.

        Raises:
            InputError: a row lies outside the batch.
            UnsupportedModelError: there is no such parameter, its shape is another, or rows cannot be told apart.
        """
        chosen = ChosenRows(tuple(sorted(set(rows))), batch)
        if len(chosen.rows) == batch:
            with self.on(model):
                yield
            return
        with ExitStack() as stack:
            for name, value in self.values.items() if chosen.rows else ():
                parameter = _parameter(model, name, value)
                module: nn.Module = model.get_submodule(name.rpartition(".")[0])
                stack.callback(module.register_forward_hook(_replacing(parameter, value, chosen)).remove)
            yield

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Let ``model`` have these values inside; no other thread may use it meanwhile.

        Raises:
            UnsupportedModelError: there is no such parameter, or its shape is another.
        """
        parameters = {name: _parameter(model, name, value) for name, value in self.values.items()}
        own = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self.values[name]
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = own[name]


@contextmanager
def weights_by_row(model: Any, weights: Sequence[WeightOverlay | None]) -> Iterator[None]:
    """Let each row of a batch meet its own weights inside; None are the model's own.

    Raises:
        UnsupportedModelError: as :meth:`WeightOverlay.on_rows`.
    """
    with ExitStack() as stack:
        for overlay in dict.fromkeys(one for one in weights if one is not None):
            rows = [row for row, one in enumerate(weights) if one is overlay]
            stack.enter_context(overlay.on_rows(model, rows, len(weights)))
        yield


def _replacing(
    parameter: Tensor, value: Tensor, chosen: ChosenRows
) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    """Return a hook that puts what a module says of chosen rows with another weight into its output."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        index = chosen.indices(output.shape[0], output.device)
        source = args[0] if index is None else args[0].index_select(0, index)
        own = parameter.data
        try:
            parameter.data = value
            changed: Tensor = module.forward(source, *args[1:])
        finally:
            parameter.data = own
        if index is None:
            return changed
        copied = output.index_copy if output.requires_grad else output.index_copy_
        return copied(0, index, changed)

    return hook


def _parameter(model: Any, name: str, value: Tensor) -> Tensor:
    try:
        parameter: Tensor = model.get_parameter(name)
    except AttributeError as error:
        raise UnsupportedModelError(f"{type(model).__name__} has no parameter {name!r}") from error
    if parameter.shape != value.shape:
        raise UnsupportedModelError(
            f"{name} has the shape {tuple(parameter.shape)}, the new value {tuple(value.shape)}: made for another model"
        )
    return parameter
