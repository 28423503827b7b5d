"""What a causal LM is made of, found by looking at its modules rather than at its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from memedit.errors import InputError, UnsupportedModelError

_ATTENTION_WORDS = ("attn", "attention")


@dataclass(frozen=True, slots=True)
class LinearSpec:
    """One linear map of a layer: ``path`` below the layer, widths, and how its weight lies in memory.

    ``transposed`` is False for ``[out, in]`` (``nn.Linear``) and True for ``[in, out]`` (GPT-2's ``Conv1D``).
    """

    path: str
    in_features: int
    out_features: int
    transposed: bool

    def weight(self, layer: nn.Module) -> Tensor:
        """Return the weight as ``[out, in]``: the live parameter or a transposed view of it."""
        weight = layer.get_submodule(self.path).weight
        if not isinstance(weight, Tensor):
            raise UnsupportedModelError(f"{self.path} has no weight tensor (found {type(weight).__name__})")
        return weight.T if self.transposed else weight


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where the parts of a causal LM are.

    Paths of layers, embedding and head start at the model; those of linear maps start at a layer. ``attention`` and
    ``mlp`` hold a layer's linear maps in the order of their definition; ``attention_out`` and ``mlp_down`` write to
    the residual stream (None where the layer is not of that shape, as in mixtures of experts).
    """

    family: str
    layers: str
    n_layers: int
    hidden_size: int
    intermediate_size: int | None
    vocabulary_size: int
    max_positions: int | None
    embedding: str
    head: str | None
    attention: tuple[LinearSpec, ...]
    attention_out: LinearSpec | None
    mlp: tuple[LinearSpec, ...]
    mlp_down: LinearSpec | None

    @classmethod
    def of(cls, model: Any) -> "ModelSpec":
        """Describe ``model``.

        Raises:
            UnsupportedModelError: it has no token embedding or no list of layers.
        """
        embedding = model.get_input_embeddings()
        if embedding is None or not hasattr(embedding, "weight"):
            raise UnsupportedModelError(f"{type(model).__name__} has no token embedding")
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        hidden = int(getattr(config, "hidden_size", embedding.weight.shape[1]))
        path, stack = _layer_stack(model, getattr(config, "num_hidden_layers", None))
        attention, mlp = _linears(stack[0])
        down = _last_writing(mlp, hidden)
        head = model.get_output_embeddings()
        return cls(
            family=str(getattr(config, "model_type", type(model).__name__)),
            layers=path,
            n_layers=len(stack),
            hidden_size=hidden,
            intermediate_size=down.in_features if down is not None else None,
            vocabulary_size=int(embedding.weight.shape[0]),
            max_positions=getattr(config, "max_position_embeddings", None),
            embedding=_path_of(model, embedding),
            head=_path_of(model, head) if head is not None else None,
            attention=attention,
            attention_out=_last_writing(attention, hidden),
            mlp=mlp,
            mlp_down=down,
        )

    @property
    def linears(self) -> tuple[LinearSpec, ...]:
        """All linear maps of a layer."""
        return self.attention + self.mlp

    def layer(self, model: Any, index: int) -> nn.Module:
        """Return layer ``index`` of ``model`` (negative counts from the end).

        Raises:
            InputError: there is no such layer.
        """
        if not -self.n_layers <= index < self.n_layers:
            raise InputError(f"layer {index} does not exist: the model has layers 0 to {self.n_layers - 1}")
        stack = model.get_submodule(self.layers)
        found: nn.Module = stack[index]
        return found

    def find(self, name: str) -> LinearSpec:
        """Return the linear map of that path or last path component ("mlp.down_proj", "down_proj").

        Raises:
            InputError: none or several are called so.
        """
        matches = [item for item in self.linears if item.path == name or item.path.rsplit(".", 1)[-1] == name]
        if len(matches) != 1:
            known = ", ".join(item.path for item in self.linears)
            raise InputError(f"{name!r} names {len(matches)} linear maps of a layer; there are: {known}")
        return matches[0]

    def consolidation_layers(self) -> tuple[int, ...]:
        """Propose layers for weight edits: five in a row that start at an eighth of the depth.

        Causal tracing places the recall of facts in the MLPs of early middle layers (MEMIT, arXiv 2210.07229, uses
        3 to 8 of 28 for GPT-J). A starting point to be tuned, not a measured optimum for this model.
        """
        start = max(0, min(round(self.n_layers / 8), self.n_layers - 5))
        return tuple(range(start, min(start + 5, self.n_layers)))


def _layer_stack(model: nn.Module, expected: int | None) -> tuple[str, nn.ModuleList]:
    """Find the list of transformer layers: the largest list of that length, the outermost of equals."""
    lists = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 0]
    fitting = [item for item in lists if expected is None or len(item[1]) == expected]
    if not fitting:
        seen = ", ".join(f"{name} ({len(m)})" for name, m in lists) or "none"
        raise UnsupportedModelError(
            f"{type(model).__name__}: no list of {expected} transformer layers found; module lists: {seen}"
        )
    return max(fitting, key=lambda item: (sum(p.numel() for p in item[1].parameters()), -item[0].count(".")))


def _linears(layer: nn.Module) -> tuple[tuple[LinearSpec, ...], tuple[LinearSpec, ...]]:
    """Return the linear maps of the layer's attention and of everything else, in order of definition."""
    attention: list[LinearSpec] = []
    rest: list[LinearSpec] = []
    for path, module in layer.named_modules():
        spec = _linear(path, module)
        if spec is None:
            continue
        top = path.split(".")[0]
        child = type(layer.get_submodule(top)).__name__ if "." in path else ""
        inside = "." in path and any(word in f"{top} {child}".lower() for word in _ATTENTION_WORDS)
        (attention if inside else rest).append(spec)
    return tuple(attention), tuple(rest)


def _linear(path: str, module: nn.Module) -> LinearSpec | None:
    if isinstance(module, Conv1D):
        return LinearSpec(path, int(module.weight.shape[0]), int(module.weight.shape[1]), transposed=True)
    if isinstance(module, nn.Linear) or _looks_linear(module):
        return LinearSpec(path, int(module.in_features), int(module.out_features), transposed=False)  # type: ignore[arg-type]
    return None


def _looks_linear(module: nn.Module) -> bool:
    """Quantised layers are not ``nn.Linear`` but keep its attributes."""
    widths = [getattr(module, name, None) for name in ("in_features", "out_features")]
    return all(isinstance(width, int) for width in widths) and isinstance(getattr(module, "weight", None), torch.Tensor)


def _last_writing(linears: Sequence[LinearSpec], hidden: int) -> LinearSpec | None:
    """Return the last map into the residual stream. Expert lists have many; they have no single one."""
    writing = [item for item in linears if item.out_features == hidden]
    if not writing or any(part.isdigit() for part in writing[-1].path.split(".")):
        return None
    return writing[-1]


def _path_of(model: nn.Module, wanted: nn.Module) -> str:
    for name, module in model.named_modules():
        if module is wanted:
            return name
    raise UnsupportedModelError(f"{type(wanted).__name__} is not a submodule of {type(model).__name__}")
