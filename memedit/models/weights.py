"""Changed weights on a live model, for a while or for good."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memedit.errors import UnsupportedModelError


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
