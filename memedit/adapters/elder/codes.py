"""Allocation codes: which experts of each layer an edit is assigned, as bits (arXiv 2408.11869, section 3.3)."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from memedit.adapters.elder.config import ElderConfig
from memedit.errors import InputError

_BITS, _VECTORS = "bits", "vectors"


def assigned_code(key: str, config: ElderConfig) -> Tensor:
    """Return the code an edit is assigned, ``[L * N]`` of 0 and 1 with ``top_k`` ones a layer.

    It is drawn by the hash of ``key``: edits that state the same knowledge under one key share a code, and no edit's
    code depends on when it came.
    """
    rng = random.Random(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest())
    code = torch.zeros(len(config.layers), config.experts, dtype=torch.uint8)
    for layer in code:
        layer[rng.sample(range(config.experts), config.top_k)] = 1
    return code.flatten()


def top_k_code(scores: Tensor, top_k: int) -> Tensor:
    """Return the codes ``[n, L * N]`` of router scores ``[n, L, N]``: 1 for the ``top_k`` highest of each layer."""
    chosen = scores.topk(top_k, dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.uint8).scatter_(-1, chosen, 1).flatten(1)


def hamming(codes: Tensor, stored: Tensor) -> Tensor:
    """Return the Hamming distances ``[n, m]`` of codes ``[n, b]`` to stored codes ``[m, b]``."""
    left, right = codes.to(torch.float32), stored.to(torch.float32)
    return (left @ (1 - right).T + (1 - left) @ right.T).round().long()


@dataclass(frozen=True, slots=True)
class EditCode:
    """What the memory keeps of one trained edit.

    ``bits [L * N]`` is its allocation code; ``vectors [C, d_model]`` the up-projections of its own LoRAs, in units of
    the mixture (C is 0 where routers allocate).
    """

    bits: Tensor
    vectors: Tensor

    def to_bytes(self) -> bytes:
        """Return the code as safetensors; vectors are rounded to float16."""
        vectors = self.vectors.detach().to("cpu", torch.float16).contiguous()
        return save({_BITS: self.bits.to("cpu", torch.uint8).contiguous(), _VECTORS: vectors})

    @classmethod
    def parse(cls, blob: bytes, config: ElderConfig, width: int | None, edit_id: str) -> "EditCode":
        """Read what :meth:`to_bytes` wrote; vectors come back as float32. A ``width`` of None is not checked.

        Raises:
            InputError: the blob is damaged, or of another shape than the mixture's.
        """
        try:
            tensors = load(blob)
        except SafetensorError as error:
            raise InputError(f"the ELDER code of edit {edit_id} is damaged: {error}; train it again") from error
        found = tensors[_VECTORS].shape[-1] if width is None and _VECTORS in tensors else width
        wanted = {_BITS: (config.code_bits,), _VECTORS: (len(config.code_layers), found)}
        seen = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if seen != wanted:
            raise InputError(f"the ELDER code of edit {edit_id} holds {seen}, expected {wanted}; train it again")
        return cls(tensors[_BITS], tensors[_VECTORS].float())


def stacked(codes: Sequence[EditCode]) -> Tensor:
    """Return the bits of codes as ``[m, L * N]``."""
    return torch.stack([code.bits for code in codes]) if codes else torch.zeros(0, 0, dtype=torch.uint8)
