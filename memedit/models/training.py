"""A frozen model to train beside, or through: in the dtype in which the processor is fastest."""

import copy
from typing import Any

import torch

from memedit.models.loading import resolve_dtype


def training_copy(model: Any, dtype: str, *, own: bool = False) -> Any:
    """Return ``model`` frozen, in ``dtype``: itself where nothing changes, else a copy.

    "auto" is bfloat16 where the processor computes in it, else the model's own dtype. With ``own`` it is a copy in any
    case, which may be written to. On a processor a copy has plain attention: the gradient of the fused one takes
    several times as long there on rows of a sentence or two.
    """
    wanted = _automatic(model) if dtype == "auto" else resolve_dtype(dtype)
    if wanted == model.dtype and not own:
        return model.eval().requires_grad_(False)
    copied = copy.deepcopy(model).to(wanted)
    if copied.device.type == "cpu":
        copied.set_attn_implementation("eager")
    return copied.eval().requires_grad_(False)


def _automatic(model: Any) -> torch.dtype:
    kind = next(model.parameters()).device.type
    able = {"cuda": torch.cuda.is_bf16_supported, "cpu": computes_bfloat16}.get(kind)
    return torch.bfloat16 if able is not None and able() else model.dtype


def computes_bfloat16() -> bool:
    """Say whether this processor computes in bfloat16."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check is not None else False
