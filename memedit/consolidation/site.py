"""Where in a model edits are written: which linear map, in which layers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings
from memedit.errors import InputError, UnsupportedModelError
from memedit.models import LinearSpec, LoadedModel, ModelSpec
from memedit.models.hypernet.files import read_record

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class EditSite:
    """The edited linear map of each layer; ``layers`` are ascending.

    ``polished`` are those that polishing moves as well, ``layers`` among them; ``layers`` alone without polishing.
    """

    spec: ModelSpec
    linear: LinearSpec
    layers: tuple[int, ...]
    polished: tuple[int, ...]

    @classmethod
    def of(cls, loaded: LoadedModel, settings: ConsolidationSettings) -> "EditSite":
        """Find the edited maps of a model.

        Raises:
            UnsupportedModelError: no single down-projection a layer, or its weights are quantised.
            InputError: a layer or module of the settings does not exist.
        """
        spec = ModelSpec.of(loaded.model)
        linear = spec.mlp_down if settings.module is None else spec.find(settings.module)
        if linear is None:
            raise UnsupportedModelError(
                f"{loaded.name}: no single MLP down-projection per layer (a mixture of experts?), so edits cannot be "
                "written into its weights; keep them in the memory, or name another linear map in settings.module"
            )
        layers = settings.layers
        if layers is None:
            layers = _proposed(spec, settings)
        if not layers:
            raise UnsupportedModelError(f"{loaded.name} has {spec.n_layers} layer(s), too few to write edits into")
        polished = tuple(sorted({*layers, *settings.polish_layers}))
        if polished[-1] >= spec.n_layers:
            raise InputError(f"layer {polished[-1]} does not exist; the model has layers 0 to {spec.n_layers - 1}")
        for layer in polished:
            weight = linear.weight(spec.layer(loaded.model, layer))
            _check_weight(loaded.name, f"{spec.layers}.{layer}.{linear.path}", weight, linear)
        if settings.maker == "target" and layers[-1] >= spec.n_layers - 1:
            raise InputError(
                f"layer {layers[-1]} is the model's last: a target behind it is read by no later token; choose layers "
                f"up to {spec.n_layers - 2}"
            )
        return cls(spec, linear, tuple(layers), polished)

    def module_name(self, layer: int) -> str:
        """Return the path of the edited map of a layer, from the model."""
        return f"{self.spec.layers}.{layer}.{self.linear.path}"

    def weight(self, model: Any, layer: int) -> Tensor:
        """Return the edited weight as ``[d_out, d_in]``, detached; a view of the live parameter."""
        return self.linear.weight(self.spec.layer(model, layer)).detach()


def _proposed(spec: ModelSpec, settings: ConsolidationSettings) -> tuple[int, ...]:
    """Return the layers to edit where none are named.

    A target sits behind the subject, so it is written where facts are recalled, and never behind the last layer, which
    no later token reads. Gradients ask where the answer is predicted: there late layers do best. A network was trained
    for its own layers.
    """
    if settings.maker == "hypernet":
        return read_record(Path(settings.network or "")).config.layers
    if settings.maker == "gradient":
        return tuple(range(max(0, spec.n_layers - 4), max(1, spec.n_layers - 1)))
    return tuple(i for i in spec.consolidation_layers() if i < spec.n_layers - 1)


def _check_weight(model: str, name: str, weight: Tensor, linear: LinearSpec) -> None:
    if weight.dtype in _PLAIN and tuple(weight.shape) == (linear.out_features, linear.in_features):
        return
    raise UnsupportedModelError(
        f"{model}: the weight of {name} is quantised (stored as {weight.dtype}, shape {tuple(weight.shape)}), and "
        "edits cannot be added to it; consolidate into the unquantised checkpoint (load it without "
        "quantization_config, in float32 or bfloat16) and quantise the published version anew, or keep the edits "
        "in the memory"
    )
