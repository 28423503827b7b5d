"""The low-rank factors of one edit, as they are kept in the memory."""

from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor

from memedit.adapters.blobs import read_tensors
from memedit.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class EditFactors:
    """What an edit adds to m maps: ``output_m += (x @ down_m.T) @ up_m``.

    ``down`` is ``[m, r, d_in]``, ``up`` ``[m, r, d_out]``; on disk both are float16, ``2 m r (d_in + d_out)`` bytes.
    """

    down: Tensor
    up: Tensor

    def to_bytes(self) -> bytes:
        """Return the factors as a safetensors blob."""
        tensors = {"down": self.down, "up": self.up}
        return save({name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()})

    @classmethod
    def parse(cls, blob: bytes, *, maps: int, d_in: int, d_out: int, edit_id: str) -> "EditFactors":
        """Read what :meth:`to_bytes` wrote.

        Raises:
            InputError: it is damaged, or of another shape than the network's maps.
        """
        tensors = read_tensors(blob, f"the factors of edit {edit_id} are")
        down, up = tensors.get("down"), tensors.get("up")
        fits = down is not None and up is not None and down.dim() == 3 and up.dim() == 3
        if not fits or down is None or up is None or not _fit(down, up, (maps, d_in, d_out)):
            found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            raise InputError(f"the factors of edit {edit_id} are {found}, not of {maps} maps {d_in} to {d_out}")
        return cls(down, up)


def _fit(down: Tensor, up: Tensor, wanted: tuple[int, int, int]) -> bool:
    return (down.shape[0], down.shape[2], up.shape[2]) == wanted and down.shape[:2] == up.shape[:2]
