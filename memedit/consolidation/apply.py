"""Putting a weight delta onto its base: for a while, for good, or as a PEFT adapter."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from memedit.errors import FingerprintMismatchError, InputError, UnsupportedModelError
from memedit.models import LoadedModel, ModelSpec
from memedit.models.weights import weights_replaced, write_weights
from memedit.types import WeightDelta, WeightTerm


@dataclass(frozen=True, slots=True)
class LoraShape:
    """A LoRA's rank, and the least share of a layer's change (of its Frobenius norm) that it holds: 1 is exact."""

    rank: int
    kept: float


@contextmanager
def applied(loaded: LoadedModel, delta: WeightDelta) -> Iterator[None]:
    """Let the model have the edited weights inside; on exit, exceptions included, the very bytes are back.

    Raises:
        FingerprintMismatchError: the delta was made for another base.
        UnsupportedModelError: a module of the delta is not in the model.
    """
    _check_base(loaded, delta)
    with weights_replaced(loaded.model, edited_weights(loaded.model, delta)):
        yield


def write_delta(loaded: LoadedModel, delta: WeightDelta) -> None:
    """Write the edited weights into the model, for ``save_pretrained``; the model is another one from then on.

    Raises:
        FingerprintMismatchError: the delta was made for another base.
        UnsupportedModelError: a module of the delta is not in the model; nothing is written.
    """
    _check_base(loaded, delta)
    write_weights(loaded.model, edited_weights(loaded.model, delta))


def edited_weights(model: Any, delta: WeightDelta, base: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Return ``W0 + delta`` by parameter name, in the orientation and dtype of the model; sums are float64.

    ``base`` holds ``W0`` by parameter name, None takes what the model has.

    Raises:
        UnsupportedModelError: a module of the delta is not in the model, or has another shape.
    """
    spec = ModelSpec.of(model)
    weights = {}
    for name, term in delta.terms.items():
        layer, linear = _locate(spec, name)
        weight = linear.weight(spec.layer(model, layer)).detach()
        if base is not None:
            weight = base[f"{name}.weight"].T if linear.transposed else base[f"{name}.weight"]
        if term.shape != tuple(weight.shape):
            raise UnsupportedModelError(
                f"the change of {name} has the shape {term.shape}, the weight {tuple(weight.shape)}: it was made for "
                "another model"
            )
        change = torch.from_numpy(np.ascontiguousarray(term.matrix(), dtype=np.float64)).to(weight.device)
        edited = (weight.double() + change).to(weight.dtype)
        weights[f"{name}.weight"] = edited.T.contiguous() if linear.transposed else edited
    return weights


def _locate(spec: ModelSpec, name: str) -> tuple[int, Any]:
    prefix = f"{spec.layers}."
    layer, _, path = name.removeprefix(prefix).partition(".")
    if not name.startswith(prefix) or not layer.isdigit():
        raise InputError(f"{name!r} is not a linear map of a layer of this model ({spec.layers}.N.PATH)")
    return int(layer), spec.find(path)


def _check_base(loaded: LoadedModel, delta: WeightDelta) -> None:
    if delta.base != loaded.fingerprint:
        raise FingerprintMismatchError(
            f"this weight delta was solved for model {delta.base[:12]}, the loaded one ({loaded.name}) is "
            f"{loaded.fingerprint[:12]}; load the frozen base it belongs to"
        )


def to_peft_lora(loaded: LoadedModel, delta: WeightDelta, path: Path, *, rank: int | None = None) -> LoraShape:
    """Write the delta as one PEFT LoRA adapter and return its shape.

    Without ``rank`` it is exact: its rank is the largest of the layers' (at most the number of edits). With it every
    layer's change is the nearest one of that rank (Eckart and Young 1936). Narrower layers are filled up with zeros,
    and ``lora_alpha`` equals the rank, so that PEFT scales by 1.

    Raises:
        InputError: the delta is dense (RECT, or more edits than the weight has rows) and no rank is given.
        FingerprintMismatchError: the delta was made for another base.
    """
    _check_base(loaded, delta)
    dense = [name for name, term in delta.terms.items() if term.dense is not None]
    if dense and rank is None:
        raise InputError(
            f"the update of {dense[0]} has no low rank (a dense method, or more edits than the weight has rows), so it "
            "cannot be a LoRA; publish the whole weights instead, or give a rank"
        )
    factors = {name: _balanced(term) for name, term in delta.terms.items()}
    whole = max(up.shape[1] for up, _ in factors.values())
    rank = whole if rank is None else min(rank, whole)
    kept = min(_share(up[:, :rank], up) for up, _ in factors.values())
    tensors = {}
    for name, (up, down) in factors.items():
        for part, value in zip(("lora_B", "lora_A"), _filled(up[:, :rank], down[:rank], rank), strict=True):
            tensors[f"base_model.model.{name}.{part}.weight"] = torch.from_numpy(value)
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "adapter_model.safetensors")
    spec = ModelSpec.of(loaded.model)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": loaded.name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(_locate(spec, name)[1].transposed for name in delta.terms),
        "target_modules": sorted(delta.terms),
    }
    (path / "adapter_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return LoraShape(rank, kept)


def _balanced(term: WeightTerm) -> tuple[np.ndarray, np.ndarray]:
    """Return ``up [d_out, r]`` and ``down [r, d_in]`` of a change, largest singular value first.

    Both have the same column norms, the roots of the singular values, so that float32 holds both well.
    """
    if term.dense is not None:
        left, middle, right = np.linalg.svd(np.asarray(term.dense, dtype=np.float64), full_matrices=False)
    else:
        up, down = (np.asarray(factor, dtype=np.float64) for factor in term.factors)
        (first, upper), (second, lower) = np.linalg.qr(up), np.linalg.qr(down.T)
        left, middle, right = np.linalg.svd(upper @ lower.T, full_matrices=False)
        left, right = first @ left, right @ second.T
    root = np.sqrt(middle)
    return left * root, root[:, None] * right


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    """Return the Frobenius norm of a change of lower rank as a share of the whole one's; both as balanced factors."""
    total = float((np.square(whole).sum(0) ** 2).sum())
    return 1.0 if total == 0 else float(np.sqrt((np.square(part).sum(0) ** 2).sum() / total))


def _filled(up: np.ndarray, down: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return factors widened with zeros to ``rank``, in float32."""
    missing = rank - up.shape[1]
    up = np.pad(up, ((0, 0), (0, missing))).astype(np.float32)
    return np.ascontiguousarray(up), np.ascontiguousarray(np.pad(down, ((0, missing), (0, 0))).astype(np.float32))
