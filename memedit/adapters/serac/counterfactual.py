"""The counterfactual model of SERAC (arXiv 2206.06520, section 3): a small model cut from the base, same tokenizer."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import InputError
from memedit.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class CounterfactualConfig:
    """Shape of a counterfactual model.

    Args:
        layers: numbers of the base's layers that it keeps, rising (found by
            :func:`~memedit.training.serac.pruning.choose_layers`).
        rank: rank of the LoRA on every linear map of the kept layers.
        alpha: scaling numerator of the LoRA.
    """

    layers: tuple[int, ...]
    rank: int = 16
    alpha: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # JSON gives a list
        if min(self.rank, self.alpha) < 1:
            raise InputError(f"not a counterfactual model's shape: {self}; rank and alpha are at least 1")


def _check_layers(layers: Sequence[int], available: int) -> None:
    """Check which layers of a model with ``available`` layers are to be kept.

    Raises:
        InputError: there are none, or they do not rise from 0 on to below ``available``.
    """
    if not layers or list(layers) != sorted({*layers} & {*range(available)}):
        raise InputError(f"cannot keep layers {[*layers]} of a model that has {available}; give some of them, rising")


def build_counterfactual(base: Any, config: CounterfactualConfig, *, seed: int = 0) -> Any:
    """Cut a counterfactual model out of ``base``.

    All weights are the base's own tensors (no memory is copied, and they take no gradient); what is new is a LoRA on
    the kept layers, which starts without effect. The base is not changed. ``seed`` decides the LoRA's initial values.

    Raises:
        InputError: the base has no such layers.
        UnsupportedModelError: its layers cannot be found.
    """
    from peft import LoraConfig, inject_adapter_in_model

    spec, model = ModelSpec.of(base), cut(base, config.layers).requires_grad_(False)
    names = [f"{spec.layers}.{i}.{linear.path}" for i in range(len(config.layers)) for linear in spec.linears]
    transposed = spec.linears[0].transposed
    settings = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names, fan_in_fan_out=transposed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return inject_adapter_in_model(settings, model).eval()


def cut(base: Any, layers: Sequence[int]) -> Any:
    """Return ``base`` with some of its layers alone, sharing its tensors; the base is not changed.

    Raises:
        InputError: it has no such layers.
        UnsupportedModelError: its layers cannot be found.
    """
    spec = ModelSpec.of(base)
    _check_layers(layers, spec.n_layers)
    model = _sharing_copy(base)
    _leave(model, spec, layers)
    return model


def trained_parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return the LoRA of a counterfactual model, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}


@torch.no_grad()
def load_trained(model: Any, tensors: dict[str, Tensor]) -> None:
    """Put trained tensors into a counterfactual model of the same shape.

    Raises:
        InputError: names or shapes differ.
    """
    own = trained_parameters(model)
    wrong = sorted(own.keys() ^ tensors.keys()) or sorted(n for n in own if own[n].shape != tensors[n].shape)
    if wrong:
        raise InputError(f"trained weights do not fit this counterfactual model; they differ in {', '.join(wrong[:3])}")
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


def _sharing_copy(model: Any) -> Any:
    """Copy a model's modules but not its tensors."""
    tensors: Sequence[Tensor] = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _leave(model: Any, spec: ModelSpec, keep: Sequence[int]) -> None:
    """Leave the layers ``keep`` and number them anew (their place in the key-value cache)."""
    layers = model.get_submodule(spec.layers)
    parent, _, name = spec.layers.rpartition(".")
    kept = nn.ModuleList(layers[i] for i in keep)
    setattr(model.get_submodule(parent), name, kept)
    for number, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", number)  # noqa: B010 - a plain assignment is mistyped
    kinds = getattr(model.config, "layer_types", None)
    model.config.num_hidden_layers = len(kept)
    if kinds is not None:
        model.config.layer_types = [kinds[i] for i in keep]
