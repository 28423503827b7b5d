"""What is kept of an edit so that solving again needs no forward pass: its keys and its target."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from memedit.errors import InputError
from memedit.types import FloatArray

_HEADER = "header"


@dataclass(frozen=True, slots=True)
class EditArtefact:
    """Keys and target of one edit on the frozen base.

    Attributes:
        keys: ``[d_in]`` by layer: mean input of the edited linear map at the edit's position.
        residuals: ``[d_out]`` by layer: what the map's output there has to gain.
        hidden: ``[d_model]``: hidden state behind the top edited layer on the bare prompt.
        target: ``[d_model]``: what it has to become (MEMIT's z).
        initial_loss, final_loss: mean negative log-likelihood of the target's tokens (nats), before and after.
        steps: optimisation steps taken.
    """

    keys: Mapping[int, FloatArray]
    residuals: Mapping[int, FloatArray]
    hidden: FloatArray
    target: FloatArray
    initial_loss: float
    final_loss: float
    steps: int

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited layers, ascending."""
        return tuple(sorted(self.keys))

    def to_bytes(self) -> bytes:
        """Return it as a safetensors file."""
        tensors: dict[str, np.ndarray] = {"hidden": self.hidden, "target": self.target}
        for layer in self.layers:
            tensors[f"key.{layer}"] = self.keys[layer]
            tensors[f"residual.{layer}"] = self.residuals[layer]
        header = {"initial_loss": self.initial_loss, "final_loss": self.final_loss, "steps": self.steps}
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
            return cls(
                keys=_by_layer(tensors, "key."),
                residuals=_by_layer(tensors, "residual."),
                hidden=tensors["hidden"],
                target=tensors["target"],
                **header,
            )
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"stored keys and target cannot be read ({type(error).__name__}: {error}); compute them anew"
            ) from error


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + size])["__metadata__"]
    return {str(name): str(value) for name, value in found.items()}


def _by_layer(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[int, FloatArray]:
    return {int(name[len(prefix) :]): value for name, value in tensors.items() if name.startswith(prefix)}
