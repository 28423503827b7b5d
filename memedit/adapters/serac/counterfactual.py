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
        first: how many of the base's first layers it keeps.
        last: how many of its last layers follow them. The last layers know how to read out into the vocabulary.
        rank: rank of the LoRA on every linear map of the kept layers.
        alpha: scaling numerator of the LoRA.
    """

    first: int = 8
    last: int = 4
    rank: int = 16
    alpha: int = 32

    def __post_init__(self) -> None:
        if self.first < 1 or self.last < 0 or min(self.rank, self.alpha) < 1:
            raise InputError(f"not a counterfactual model's shape: {self}; keep at least one layer, rank >= 1")

    def layers(self, available: int) -> tuple[int, ...]:
        """Return the numbers of the kept layers of a base with ``available`` layers.

        Raises:
            InputError: there are fewer layers than are to be kept.
        """
        if self.first + self.last > available:
            raise InputError(f"cannot keep {self.first} + {self.last} layers of a model that has {available}")
        return (*range(self.first), *range(available - self.last, available))


def build_counterfactual(base: Any, config: CounterfactualConfig, *, seed: int = 0) -> Any:
    """Cut a counterfactual model out of ``base``.

    All weights are the base's own tensors (no memory is copied, and they take no gradient); what is new is a LoRA on
    the kept layers, which starts without effect. The base is not changed. ``seed`` decides the LoRA's initial values.

    Raises:
        InputError: the base has too few layers.
        UnsupportedModelError: its layers cannot be found.
    """
    from peft import LoraConfig, inject_adapter_in_model

    spec = ModelSpec.of(base)
    keep = config.layers(spec.n_layers)
    model = _sharing_copy(base)
    _cut(model, spec, keep)
    model.requires_grad_(False)
    names = [f"{spec.layers}.{i}.{linear.path}" for i in range(len(keep)) for linear in spec.linears]
    transposed = spec.linears[0].transposed
    settings = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names, fan_in_fan_out=transposed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return inject_adapter_in_model(settings, model).eval()


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


def _cut(model: Any, spec: ModelSpec, keep: Sequence[int]) -> None:
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
