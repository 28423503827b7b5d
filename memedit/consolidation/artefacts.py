"""What is kept of an edit so that solving again needs no forward pass: its keys, and its target or gradients."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from memedit.errors import InputError
from memedit.types import FloatArray

_HEADER = "header"


@dataclass(frozen=True, slots=True)
class EditArtefact:
    """What one edit asks of the frozen base's weights.

    An edit has ``k`` key rows, the same number in every layer: one where it is written at its subject alone, one for
    each position that predicts a target's token where it is made of gradients. Those have no target. Their residuals
    are gradients still (:mod:`memedit.consolidation.makers.gradient`), unless a network has made of them what the
    outputs have to gain, and says how much the solve is to hold back (:mod:`memedit.consolidation.makers.hypernet`).

    Attributes:
        keys: ``[k, d_in]`` by layer: inputs of the edited linear map at the edit's positions.
        residuals: ``[k, d_out]`` by layer: what the map's outputs there have to gain, or the loss's gradients there.
        hidden: ``[d_model]``: hidden state behind the top edited layer on the bare prompt; None without a target.
        target: ``[d_model]``: what it has to become (MEMIT's z); None where gradients ask.
        initial_loss, final_loss: mean negative log-likelihood of the target's tokens (nats), before and after.
        steps: optimisation steps taken.
        ridges: by layer, the weight of ``|delta W|**2`` that a network was trained with; None where none was.
    """

    keys: Mapping[int, FloatArray]
    residuals: Mapping[int, FloatArray]
    hidden: FloatArray | None
    target: FloatArray | None
    initial_loss: float
    final_loss: float
    steps: int
    ridges: Mapping[int, float] | None = None

    @property
    def by_gradient(self) -> bool:
        """Whether residuals are gradients still."""
        return self.target is None and self.ridges is None

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited layers, ascending."""
        return tuple(sorted(self.keys))

    @property
    def rows(self) -> int:
        """The number of key rows."""
        return len(self.keys[self.layers[0]])

    def to_bytes(self) -> bytes:
        """Return it as a safetensors file; a single key row is stored as a vector."""
        whole = {"hidden": self.hidden, "target": self.target}
        tensors: dict[str, np.ndarray] = {name: value for name, value in whole.items() if value is not None}
        for layer in self.layers:
            tensors[f"key.{layer}"] = _packed(self.keys[layer])
            tensors[f"residual.{layer}"] = _packed(self.residuals[layer])
        header: dict[str, Any] = {
            "initial_loss": self.initial_loss, "final_loss": self.final_loss, "steps": self.steps,
        }  # fmt: skip
        if self.ridges is not None:
            header["ridges"] = dict(self.ridges)
        return bytes(save(tensors, metadata={_HEADER: json.dumps(header)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> "EditArtefact":
        """Read what :meth:`to_bytes` wrote.

        Raises:
            InputError: the data is damaged or something else.
        """
        try:
            tensors = load(data)
            header = json.loads(_metadata(data)[_HEADER])
            if (ridges := header.get("ridges")) is not None:
                header["ridges"] = {int(layer): float(value) for layer, value in ridges.items()}
            return cls(
                keys=_by_layer(tensors, "key."),
                residuals=_by_layer(tensors, "residual."),
                hidden=tensors.get("hidden"),
                target=tensors.get("target"),
                **header,
            )
        except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"stored keys and target cannot be read ({type(error).__name__}: {error}); compute them anew"
            ) from error


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + size])["__metadata__"]
    return {str(name): str(value) for name, value in found.items()}


def _by_layer(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[int, FloatArray]:
    found = {int(name[len(prefix) :]): value for name, value in tensors.items() if name.startswith(prefix)}
    if not found:
        raise KeyError(f"{prefix}N")
    return {layer: np.atleast_2d(value) for layer, value in found.items()}


def _packed(values: FloatArray) -> np.ndarray:
    return values[0] if len(values) == 1 else values
