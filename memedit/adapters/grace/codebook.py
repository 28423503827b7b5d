"""GRACE's codebook: keys with radii, and how edits that come one after another share the space between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor

from memedit.adapters.blobs import read_tensors
from memedit.errors import InputError

_KEY, _VALUE = "key", "value"
_GAP = 1e-5
"""What two radii that split a distance leave between them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key ``[d_in]``, the value ``[d_out]`` that replaces the output near it, and the answer it is to give."""

    key: Tensor
    value: Tensor
    label: str

    def to_bytes(self) -> bytes:
        """Return key and value as safetensors, rounded to float16."""
        return save({_KEY: self.key.to("cpu", torch.float16), _VALUE: self.value.detach().to("cpu", torch.float16)})

    @classmethod
    def parse(cls, blob: bytes, shape: tuple[int, int], label: str, edit_id: str) -> "Entry":
        """Read what :meth:`to_bytes` wrote, for a module of ``shape`` (d_in, d_out).

        Raises:
            InputError: the blob is damaged, or of another shape.
        """
        tensors = read_tensors(blob, f"the GRACE entry of edit {edit_id} is")
        seen = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if seen != {_KEY: shape[:1], _VALUE: shape[1:]}:
            raise InputError(f"the GRACE entry of edit {edit_id} holds {seen}, expected {shape}; prepare it again")
        return cls(tensors[_KEY].float(), tensors[_VALUE].float(), label)


@dataclass(frozen=True, slots=True)
class Codebook:
    """Keys ``[m, d_in]``, radii ``[m]`` and values ``[m, d_out]``."""

    keys: Tensor
    radii: Tensor
    values: Tensor

    @classmethod
    def of(cls, entries: Sequence[Entry], epsilon: float) -> "Codebook":
        """Take entries in their order (section 3.1, algorithm 1).

        An entry far from all keys (its distance to the nearest key is above the sum of both radii) is added with
        radius ``epsilon``. Near a key of the same label, that key's radius grows to hold it. Near a key of another,
        both stand with half the distance as their radii.

        Raises:
            InputError: ``epsilon`` is not above 0.
        """
        if epsilon <= 0:
            raise InputError(f"epsilon={epsilon} is not above 0")
        keys: list[Tensor] = []
        kept: list[Entry] = []
        radii: list[float] = []
        for entry in entries:
            distances = torch.stack(keys).sub(entry.key).norm(dim=1) if keys else torch.zeros(0)
            nearest = int(distances.argmin()) if keys else 0
            distance = float(distances[nearest]) if keys else 0.0
            radius = epsilon
            if keys and distance <= epsilon + radii[nearest]:
                if kept[nearest].label == entry.label:
                    radii[nearest] = max(radii[nearest], distance)
                    continue
                radius = distance / 2
                radii[nearest] = max(0.0, distance / 2 - _GAP)
            keys.append(entry.key)
            kept.append(entry)
            radii.append(radius)
        if not kept:
            return cls(torch.zeros(0, 0), torch.zeros(0), torch.zeros(0, 0))
        return cls(torch.stack(keys), torch.tensor(radii), torch.stack([entry.value for entry in kept]))

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return of each key ``[n, d_in]`` whether it is within the radius of its nearest entry, and which that is."""
        if not len(self.radii):
            nothing = torch.zeros(len(keys), dtype=torch.long, device=keys.device)
            return nothing.bool(), nothing
        distances = torch.cdist(keys.float(), self.keys.to(keys.device), compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.min(1)
        return nearest.values <= self.radii.to(keys.device)[nearest.indices], nearest.indices
