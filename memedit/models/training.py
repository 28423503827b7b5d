"""A frozen model to train beside, or through: in the dtype in which the processor is fastest."""

import copy
from typing import Any

import torch

from memedit.models.loading import resolve_dtype


def training_copy(model: Any, dtype: str) -> Any:
    """Return ``model`` frozen, in ``dtype``: itself where nothing changes, else a copy.

    "auto" is bfloat16 where the processor computes in it, else the model's own dtype.
    """
    wanted = _automatic(model) if dtype == "auto" else resolve_dtype(dtype)
    copied = model if wanted == model.dtype else copy.deepcopy(model).to(wanted)
    return copied.eval().requires_grad_(False)


def _automatic(model: Any) -> torch.dtype:
    device = next(model.parameters()).device
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        able = device.type == "cpu" and _cpu_computes_bfloat16()
    return torch.bfloat16 if able else model.dtype


def _cpu_computes_bfloat16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check is not None else False
