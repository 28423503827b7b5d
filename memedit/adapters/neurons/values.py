"""What the memory keeps of an edit: which neurons of each layer, and what is added to them."""

from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor

from memedit.adapters.blobs import read_tensors
from memedit.errors import InputError

_WHICH, _VALUES = "n", "v"


@dataclass(frozen=True, slots=True)
class NeuronValues:
    """Neurons ``which`` ``[L, k]`` (int64) of L layers, and what is added to each, ``values`` ``[L, k]`` (float32)."""

    which: Tensor
    values: Tensor

    def to_bytes(self) -> bytes:
        """Return them as safetensors: two bytes a number, values rounded to float16."""
        which = self.which.to("cpu", torch.uint16).contiguous()
        return save({_WHICH: which, _VALUES: self.values.detach().to("cpu", torch.float16).contiguous()})

    @classmethod
    def parse(cls, blob: bytes, shape: tuple[int, int], width: int, edit_id: str) -> "NeuronValues":
        """Read what :meth:`to_bytes` wrote.

        Args:
            blob: the artefact.
            shape: layers and neurons of a layer that the adapter uses.
            width: neurons that a layer has.
            edit_id: for messages.

        Raises:
            InputError: the blob is damaged, or of another shape.
        """
        tensors = read_tensors(blob, f"the neuron values of edit {edit_id} are")
        seen = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if seen != {_WHICH: shape, _VALUES: shape}:
            raise InputError(f"the neuron values of edit {edit_id} hold {seen}, expected {shape}; prepare it again")
        which = tensors[_WHICH].long()
        if int(which.max()) >= width:
            raise InputError(f"edit {edit_id} names neuron {int(which.max())} of {width}; prepare it again")
        return cls(which, tensors[_VALUES].float())

    def dense(self, width: int) -> Tensor:
        """Return what is added to every neuron ``[L, width]``, 0 where nothing is."""
        return torch.zeros(len(self.which), width).scatter(1, self.which, self.values)
