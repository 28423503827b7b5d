"""A few neurons of a few layers whose parameters are trained, and the change that comes of it.

Neuron ``i`` of a layer owns row ``i`` of the maps that make it (gate and up in a Llama) and column ``i`` of the map
that reads it (down). Only these are leaves; everything else of the model cannot change.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memedit.errors import UnsupportedModelError
from memedit.models.hooks import LowRankGroup, low_rank_rows
from memedit.models.spec import LinearSpec, ModelSpec
from memedit.types import WeightTerm


@dataclass(frozen=True, slots=True)
class NeuronMaps:
    """The linear maps of a layer that make its neurons (``into``), and the one that reads them (``out``)."""

    into: tuple[LinearSpec, ...]
    out: LinearSpec

    @classmethod
    def of(cls, spec: ModelSpec) -> "NeuronMaps":
        """Find them.

        Raises:
            UnsupportedModelError: a layer has no single down-projection.
        """
        down = spec.mlp_down
        if down is None:
            raise UnsupportedModelError(
                f"{spec.family} layers have no single MLP down-projection, so they have no one row of neurons to train"
            )
        into = [item for item in spec.mlp if item != down and item.out_features == down.in_features]
        return cls(tuple(into), down)

    def weights(self, spec: ModelSpec, model: Any, layer: int) -> dict[str, Tensor]:
        """Return a layer's weights ``[d_out, d_in]`` by the maps' paths from the model."""
        block = spec.layer(model, layer)
        return {f"{spec.layers}.{layer}.{item.path}": item.weight(block).detach() for item in (*self.into, self.out)}


class Ensemble:
    """Trained parameters of the chosen neurons.

    Args:
        spec: the model's parts.
        chosen: neurons by layer, ascending.
    """

    def __init__(self, spec: ModelSpec, chosen: Mapping[int, Tensor]) -> None:
        maps = NeuronMaps.of(spec)
        self._changes: dict[str, tuple[Tensor, Tensor, bool]] = {}
        for layer, neurons in chosen.items():
            units = torch.zeros(len(neurons), maps.out.in_features, device=neurons.device)
            units[torch.arange(len(neurons)), neurons] = 1.0
            for item in maps.into:
                leaf = torch.zeros(len(neurons), item.in_features, device=neurons.device, requires_grad=True)
                self._changes[f"{spec.layers}.{layer}.{item.path}"] = (leaf, units, True)
            leaf = torch.zeros(maps.out.out_features, len(neurons), device=neurons.device, requires_grad=True)
            self._changes[f"{spec.layers}.{layer}.{maps.out.path}"] = (leaf, units, False)

    @property
    def leaves(self) -> list[Tensor]:
        """The trained parameters."""
        return [leaf for leaf, _, _ in self._changes.values()]

    @contextmanager
    def applied(self, model: Any, rows: int) -> Iterator[None]:
        """Let a batch of ``rows`` rows go through the changed maps, differentiably."""
        groups = []
        for name, (leaf, units, into) in self._changes.items():
            up, down = (units.T, leaf) if into else (leaf, units)
            groups.append(LowRankGroup((name,), down.to(model.dtype), up.to(model.dtype), ((0, len(up)),)))
        with low_rank_rows(model, groups, rows=range(rows), batch=rows):
            yield

    def terms(self) -> dict[str, WeightTerm]:
        """Return the exact change of each map, as factors of the rank of the ensemble."""
        found = {}
        for name, (leaf, units, into) in self._changes.items():
            up, down = (units.T, leaf) if into else (leaf, units)
            found[name] = WeightTerm(up=up.detach().cpu().double().numpy(), down=down.detach().cpu().double().numpy())
        return found
