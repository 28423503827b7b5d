"""Networks over gradients: the factors of one in, those of the edit out, or what a solve for many is to write."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from memedit.models.hypernet.config import HypernetConfig

_TINY = 1e-7


class HyperNetwork(nn.Module):
    """Maps inputs x and output gradients d of edited maps to the factors of the edit, token by token.

    The gradient of an edit at a linear map is ``sum_t d_t x_t^T``. Each pair, normalised over the training edits, goes
    through residual blocks ``h + scale_m * relu(B A h + b) + shift_m``, the last one without the relu, and comes out
    as ``(x~, d~)``. The edit adds ``- lr_m sum_t d~_t x~_t^T`` to the weight of map m. All maps have one shape and
    share the network; ``scale_m``, ``shift_m`` and ``lr_m`` are each map's own. ``B`` is zero at first: an untrained
    network takes a gradient step on normalised factors. ``lr_m`` is positive (softplus), so that the step goes down.

    Args:
        config: its shape.
        d_in: width of what the maps read.
        d_out: width of what they write.
        step_size: of every map, before training.
        seed: decides the random start; the global random state stays.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, config: HypernetConfig, d_in: int, d_out: int, *, step_size: float = 1e-4, seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.d_in, self.d_out = config, d_in, d_out
        width, count = d_in + d_out, len(config.layers)
        generator = torch.Generator().manual_seed(seed)
        for number in range(config.blocks):
            first = torch.randn(config.rank, width, generator=generator) / math.sqrt(width)
            self.register_parameter(f"read_{number}", nn.Parameter(first))
            self.register_parameter(f"write_{number}", nn.Parameter(torch.zeros(width, config.rank)))
            self.register_parameter(f"bias_{number}", nn.Parameter(torch.zeros(width)))
            self.register_parameter(f"scale_{number}", nn.Parameter(torch.ones(count, width)))
            self.register_parameter(f"shift_{number}", nn.Parameter(torch.zeros(count, width)))
        self.step_sizes = nn.Parameter(torch.full((count,), math.log(math.expm1(step_size))))
        if config.aggregate == "ridge":
            self.ridges = nn.Parameter(torch.zeros(count))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def normalise_by(self, mean: Tensor, deviation: Tensor) -> None:
        """Set mean and deviation ``[d_in + d_out]`` of the pairs that training sees."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    @torch.no_grad()
    def scale_by(self, outputs: Tensor, ridges: Tensor, inputs: Tensor, gradients: Tensor) -> None:
        """Make the step sizes, so far without unit, those of this model, from the edits that training sees.

        Afterwards the untrained network asks for changes of ``step_size`` times the length of the maps' own outputs.

        Args:
            outputs: root mean square of each map's outputs, ``[m]``.
            ridges: of each map, ``[m]``.
            inputs: as in :meth:`forward`.
            gradients: as in :meth:`forward`.
        """
        asked = self.wanted(inputs, gradients).square().mean((1, 2)).sqrt()
        steps = functional.softplus(self.step_sizes)
        self.step_sizes.copy_(_inverse_softplus(steps.square() * outputs / asked))
        self.ridges.copy_(ridges.log())

    def wanted(self, inputs: Tensor, gradients: Tensor) -> Tensor:
        """Return by how much the maps' outputs are to change at each token, ``[m, n, d_out]``.

        ``v_t = - lr_m (x_t . x~_t) d~_t`` with ``x_t`` as it was captured (RLEdit, arXiv 2502.05759; MALMEN).
        """
        x, d = self.rewritten(inputs, gradients)
        steps = functional.softplus(self.step_sizes)[:, None, None]
        return -steps * (inputs * x).sum(-1, keepdim=True) * d

    def forward(self, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """``[m, n, d_in]`` and ``[m, n, d_out]`` of m maps and n tokens to factors ``down`` and ``up`` of these shapes.

        The edit adds ``sum_t up_t down_t^T`` to each map's weight; the step size is in both alike.
        """
        x, d = self.rewritten(inputs, gradients)
        root = functional.softplus(self.step_sizes).sqrt()[:, None, None]
        return root * x, -root * d

    def rewritten(self, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x~`` and ``d~`` of inputs ``[m, n, d_in]`` and gradients ``[m, n, d_out]``, in these shapes."""
        h = (torch.cat([inputs, gradients], dim=-1) - self.mean) / (self.deviation + _TINY)
        for number in range(self.config.blocks):
            read, write, bias, scale, shift = (
                self.get_parameter(f"{name}_{number}") for name in ("read", "write", "bias", "scale", "shift")
            )
            change = functional.linear(functional.linear(h, read), write, bias)
            if number < self.config.blocks - 1:
                change = change.clamp(min=0)  # unlike relu's, its slope at 0 is 1, and all begins at 0
            h = h + scale.unsqueeze(1) * change + shift.unsqueeze(1)
        return h[..., : self.d_in], h[..., self.d_in :]


def _inverse_softplus(values: Tensor) -> Tensor:
    return values + torch.log(-torch.expm1(-values))


def solved(keys: Tensor, wanted: Tensor, ridges: Tensor) -> Tensor:
    """Return ``up [m, n, d_out]`` such that ``sum_t up_t keys_t^T`` is each map's change of weights.

    ``dW = V^T (K K^T + e^lam I)^-1 K`` for keys ``K [m, n, d_in]`` and changes ``V [m, n, d_out]`` of the outputs,
    which is ``((K^T K + e^lam I)^-1 K^T V)^T`` (MALMEN's normal equation; RLEdit). Differentiable in ``wanted`` and in
    ``ridges`` ``[m]``, the ``lam`` of each map. Solved in float64.
    """
    k = keys.double()
    gram = k @ k.transpose(1, 2) + torch.diag_embed(ridges.double().exp()[:, None].expand(k.shape[:2]))
    return torch.cholesky_solve(wanted.double(), torch.linalg.cholesky(gram)).to(wanted.dtype)


def scored(query: Sequence[int], answer: Sequence[int], inner: str) -> tuple[Sequence[int], Sequence[int]]:
    """Return (what is given, what is wanted) of an edit whose gradient is taken: see :attr:`HypernetConfig.inner`."""
    text = [*query, *answer]
    return (text[:1], text[1:]) if inner == "text" else (query, answer)


def within_rank(down: Tensor, up: Tensor, rank: int) -> Tensor:
    """Return ``up`` with what :func:`compressed` leaves out of one edit's product taken off, differentiable in both.

    The subspace that is kept is taken as constant.
    """
    if down.shape[1] <= rank:
        return up
    with torch.no_grad():
        kept = torch.nn.functional.normalize(compressed(down, up, rank)[1], dim=-1)
    return (up @ kept.transpose(1, 2)) @ kept


@torch.no_grad()
def compressed(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return factors of at most ``rank`` tokens whose product is nearest to that of all n, map by map.

    ``down [m, n, d_in]`` and ``up [m, n, d_out]`` stand for ``sum_t up_t down_t^T``; where n is no larger they come
    back as they are. The error is the least possible of that rank (Eckart and Young).
    """
    if down.shape[1] <= rank:
        return down, up
    right, right_mix = torch.linalg.qr(down.transpose(1, 2))
    left, left_mix = torch.linalg.qr(up.transpose(1, 2))
    u, values, v = torch.linalg.svd(left_mix @ right_mix.transpose(1, 2))
    root = values[:, :rank].sqrt().unsqueeze(1)
    new_up = (left @ u[:, :, :rank]) * root
    new_down = (right @ v.transpose(1, 2)[:, :, :rank]) * root
    return new_down.transpose(1, 2).contiguous(), new_up.transpose(1, 2).contiguous()
