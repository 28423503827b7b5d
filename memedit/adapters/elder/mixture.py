"""The experts and routers of an ELDER mixture as one module, and how they start."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memedit.adapters.elder.codes import top_k_code
from memedit.adapters.elder.config import ElderConfig
from memedit.errors import UnsupportedModelError
from memedit.models.hooks import capture
from memedit.models.mixture_hooks import Mixture, Weights
from memedit.models.spec import ModelSpec

_RIDGE = 0.1


class ElderMixture(nn.Module):
    """N LoRAs of rank r in each of L layers, stacked as K = N * r components; routers; what edits' own LoRAs share.

    ``down`` is ``[L, K, d_in]``, ``up`` ``[L, d_model, K]``, ``router`` ``[L, N, d_model]`` with ``bias`` ``[L, N]``.
    ``feature`` ``[C, d_in]`` is the down-projection that edits' own LoRAs share in each of C code layers; their
    up-projections are given relative to ``origin`` ``[C, d_model]``, in units of ``unit`` ``[C]``.
    """

    unit: Tensor
    origin: Tensor

    def __init__(self, config: ElderConfig, spec: ModelSpec) -> None:
        super().__init__()
        down = spec.mlp_down
        if down is None:
            raise UnsupportedModelError(
                f"ELDER edits the MLP's output map, and {spec.family} layers have no single one"
            )
        self.config = config
        self.names = tuple(f"{spec.layers}.{layer}.{down.path}" for layer in config.layers)
        self.code_names = tuple(f"{spec.layers}.{layer}.{down.path}" for layer in config.code_layers)
        self.reads = f"{spec.layers}.{config.first}"
        self.width = spec.hidden_size
        count, width = len(config.layers), config.components
        self.down = nn.Parameter(torch.zeros(count, width, down.in_features))
        self.up = nn.Parameter(torch.zeros(count, spec.hidden_size, width))
        self.router = nn.Parameter(torch.zeros(count, config.experts, spec.hidden_size))
        self.bias = nn.Parameter(torch.zeros(count, config.experts))
        self.feature = nn.Parameter(torch.zeros(len(config.code_layers), down.in_features))
        self.register_buffer("unit", torch.ones(len(config.code_layers)))
        self.register_buffer("origin", torch.zeros(len(config.code_layers), spec.hidden_size))

    def terms(self) -> list[Mixture]:
        """Return the mixtures of all edited layers: edits' own LoRAs first, then the experts."""
        own = [Mixture(name, self.feature[i : i + 1], None) for i, name in enumerate(self.code_names)]
        return own + [Mixture(name, self.down[i], self.up[i]) for i, name in enumerate(self.names)]

    def own_weights(self, vectors: Tensor) -> Weights:
        """Return the weights of rows that bring ``vectors [n, C, d_model]``: these, and all of every expert."""
        scaled = [(vectors[:, i] + self.origin[i]) * self.unit[i] for i in range(len(self.code_names))]
        return (*scaled, *(None for _ in self.names))

    def scores(self, states: Tensor) -> Tensor:
        """Return router scores (logits) ``[n, L, N]`` of query states ``[n, d_model]``, which are normalised first."""
        read = functional.normalize(states.to(self.router), dim=-1) * states.shape[-1] ** 0.5
        return torch.einsum("nd,lkd->nlk", read, self.router) + self.bias

    def route(self, states: Tensor) -> Weights:
        """Return the experts' weights of query states: softmax over experts, the ``top_k`` highest of each layer."""
        weights = self.scores(states).softmax(-1)
        kept = weights.topk(self.config.top_k, dim=-1)
        sparse = torch.zeros_like(weights).scatter(-1, kept.indices, kept.values)
        return tuple(sparse.repeat_interleave(self.config.rank, dim=-1).unbind(1))

    def codes(self, states: Tensor) -> Tensor:
        """Return the allocation codes ``[n, L * N]`` that the routers choose for query states."""
        return top_k_code(self.scores(states), self.config.top_k)

    def guided_loss(self, states: Tensor, assigned: Tensor) -> Tensor:
        """Return the guided loss ``[n]``: minus the summed log probabilities of the assigned experts.

        ``assigned`` is ``[n, L * N]``. Section 3.3 of arXiv 2408.11869.
        """
        logs = self.scores(states).log_softmax(-1).flatten(1)
        return -(logs * assigned.to(logs)).sum(1)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Return what training changes besides edits' own vectors, by name."""
        names = ("down", "up", "feature") if self.config.allocation == "edit" else ("down", "up", "router", "bias")
        own = dict(self.named_parameters())
        return {name: own[name] for name in names}

    def parameter_count(self, edits: int = 0) -> int:
        """Number of values in experts, routers and the own vectors of so many edits."""
        shared = sum(tensor.numel() for tensor in self.state_dict().values())
        return shared + edits * len(self.code_names) * self.width


@torch.no_grad()
def initialise(mixture: ElderMixture, model: Any, tokenizer: Any, texts: Sequence[str], *, seed: int) -> None:
    """Give experts, routers and features their start.

    Experts start as LoRA does: random ``down``, zero ``up``. Routers start small and random, so that codes are a hash
    of where a query lies. A feature starts as the ridge solution of ``feature . x = 1`` over what its module is fed on
    ``texts``: an edit's own LoRA is then on wherever the model reads, and its vector a shift of the residual stream. A
    unit is the median size of the module's output over the root of its width.
    """
    generator = torch.Generator().manual_seed(seed)
    bound = mixture.down.shape[-1] ** -0.5
    mixture.down.copy_(torch.empty(mixture.down.shape).uniform_(-bound, bound, generator=generator))
    mixture.router.copy_(torch.randn(mixture.router.shape, generator=generator) * mixture.width**-0.5)
    inputs, outputs = _seen(mixture.code_names, model, tokenizer, texts)
    for number, name in enumerate(mixture.code_names):
        mixture.feature[number] = _constant_feature(inputs[name])
        mixture.unit[number] = outputs[name].norm(dim=1).median() * mixture.width**-0.5


def _seen(
    names: Sequence[str], model: Any, tokenizer: Any, texts: Sequence[str]
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return inputs and outputs ``[tokens, d]`` of modules over texts."""
    inputs: dict[str, list[Tensor]] = {name: [] for name in names}
    outputs: dict[str, list[Tensor]] = {name: [] for name in names}
    for text in texts if names else ():
        ids = torch.tensor([tokenizer(text)["input_ids"]], device=model.device)
        start = 1 if ids.shape[1] > 1 else 0  # the first position is an outlier in most models, and no query ends there
        with capture(model, names) as record:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        for name in names:
            inputs[name].append(record.inputs[name][0][0, start:].float().cpu())
            outputs[name].append(record.outputs[name][0][0, start:].float().cpu())
    return {n: torch.cat(t) for n, t in inputs.items()}, {n: torch.cat(t) for n, t in outputs.items()}


def _constant_feature(inputs: Tensor) -> Tensor:
    """Return the ridge solution ``[d]`` of ``inputs @ a = 1``."""
    gram = inputs @ inputs.T
    damped = gram + _RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    return inputs.T @ torch.linalg.solve(damped, torch.ones(len(gram)))
