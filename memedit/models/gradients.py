"""What the gradient of a linear map's weight is made of: the map's inputs and the gradients at its outputs, row by row.

The weight's gradient is a sum over token positions, ``dL/dW = sum_t delta_t x_t^T`` with ``x_t`` the map's input and
``delta_t = dL/d(output)`` there. Editors that rewrite gradients (MEND, arXiv 2110.11309, section 3.1; MALMEN; RLEdit,
arXiv 2502.05759; UltraEdit, arXiv 2505.14679) work on those two factors and never on the sum. Rows of a batch do not
mix, so one backward pass serves as many edits as there are rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from memedit.errors import InputError, UnsupportedModelError
from memedit.models.segments import Inputs, Segments, frozen

Reduction = Literal["mean", "sum"]
Kept = Literal["scored", "all"]


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows of tokens, and which tokens are wanted where.

    Attributes:
        inputs: the tokens that are fed, ``[B, t]``.
        rows: row ``[n]`` of each wanted token, ascending.
        positions: position ``[n]`` in that row at which it is predicted.
        wanted: the tokens ``[n]``.
    """

    inputs: Inputs
    rows: Tensor
    positions: Tensor
    wanted: Tensor

    @classmethod
    def of(
        cls, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], device: torch.device, *, pad: int = 0
    ) -> "ScoredRows":
        """Return rows of (prompt, target), in token ids; every target token is wanted.

        A text of which all is wanted is the pair of its first token and the others.

        Raises:
            InputError: there are no rows, or a prompt or target has no tokens.
        """
        if not pairs or not all(prompt and target for prompt, target in pairs):
            raise InputError("a row to take gradients of needs at least one token of prompt and one of target")
        inputs = Inputs.of([[*prompt, *target[:-1]] for prompt, target in pairs], device, pad=pad)
        rows = [row for row, (_, target) in enumerate(pairs) for _ in target]
        places = [len(prompt) - 1 + i for prompt, target in pairs for i in range(len(target))]
        wanted = [token for _, target in pairs for token in target]
        return cls(inputs, *(torch.tensor(values, device=device) for values in (rows, places, wanted)))


@dataclass(frozen=True, slots=True)
class LinearGradients:
    """Inputs ``[n, d_in]`` of a linear map and gradients ``[n, d_out]`` at its outputs, float32.

    ``rows`` and ``positions`` ``[n]`` say where each was seen; they are sorted by row, then position.
    """

    inputs: Tensor
    gradients: Tensor
    rows: Tensor
    positions: Tensor

    def weight(self) -> Tensor:
        """Return their part of the weight's gradient, ``sum_t delta_t x_t^T`` ``[d_out, d_in]``."""
        return self.gradients.T @ self.inputs

    def of_row(self, row: int) -> tuple[Tensor, Tensor]:
        """Return inputs and gradients of one row of the batch."""
        chosen = self.rows == row
        return self.inputs[chosen], self.gradients[chosen]


@dataclass(frozen=True, slots=True)
class CapturedGradients:
    """What :func:`capture_gradients` found: by module name, and the negative log-likelihood (nats) of each row ``[B]``.

    The likelihood is of a row's tokens together or of a token on average, as the reduction says.
    """

    modules: dict[str, LinearGradients]
    losses: Tensor


def capture_gradients(
    segments: Segments,
    names: Sequence[str],
    batch: ScoredRows,
    *,
    start: Tensor | None = None,
    reduction: Reduction = "mean",
    kept: Kept = "scored",
) -> CapturedGradients:
    """Return inputs and output gradients of linear maps for the negative log-likelihood of each row's wanted tokens.

    The loss of a row is summed over its tokens or averaged (``reduction``); those of the rows are added, so that what
    is found for a row does not depend on the others. Logits are computed where tokens are wanted only, and layers below
    the lowest named map run without a graph, or not at all when ``start`` is given.

    Args:
        segments: the model; its parameters want no gradients meanwhile.
        names: paths of linear maps inside the model's layers, each called once a pass.
        batch: the rows.
        start: hidden states ``[B, t, d_model]`` in front of the lowest layer that holds a named map.
        reduction: what a row's loss is of its tokens' losses.
        kept: positions that are returned: those that predict a wanted token, or all that are not padding. The sum over
            all is the weight's gradient; that over the scored ones is the part of it that those positions contribute.

    Raises:
        UnsupportedModelError: a map does not exist, lies outside the layers, or is not called once with ``[B, t, d]``.
    """
    if not names:
        raise InputError("name at least one linear map to take gradients of")
    first = min(layer_of(segments.spec.layers, name) for name in names)
    with frozen(segments.model):
        if start is None:
            with torch.no_grad():
                start, _ = segments.hidden(batch.inputs, last=first - 1)
        with torch.enable_grad(), _linears_seen(segments.model, names) as seen:
            logits = segments.logits(batch.inputs, (batch.rows, batch.positions), first=first, start=start.detach())
            losses = _of_rows(logits.float(), batch, reduction)
        inputs, outputs = _one_call_each(seen, names, batch.inputs.ids)
        gradients = torch.autograd.grad(losses.sum(), outputs)
    rows, positions = _places(batch, kept)
    found = {
        name: LinearGradients(x[rows, positions].float(), delta[rows, positions].float(), rows, positions)
        for name, x, delta in zip(names, inputs, gradients, strict=True)
    }
    return CapturedGradients(found, losses.detach())


def layer_of(layers: str, name: str) -> int:
    """Return the number of the layer that a module is in, ``layers`` being the path of the model's list of layers.

    Raises:
        UnsupportedModelError: it is in none.
    """
    number = name.removeprefix(f"{layers}.").partition(".")[0]
    if not name.startswith(f"{layers}.") or not number.isdigit():
        raise UnsupportedModelError(f"{name!r} lies in none of the model's layers ({layers}.N.PATH)")
    return int(number)


@contextmanager
def _linears_seen(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Record input and output of each call by module name, the outputs being part of the graph."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in names}

    def hook_for(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
            if not output.requires_grad:  # the lowest maps: nothing below them wants gradients
                output = output.detach().requires_grad_()
            seen[name].append((args[0].detach(), output))
            return output

        return hook

    with ExitStack() as stack:
        for name in names:
            try:
                module = model.get_submodule(name)
            except AttributeError as error:
                raise UnsupportedModelError(f"{type(model).__name__} has no module {name!r}") from error
            stack.callback(module.register_forward_hook(hook_for(name)).remove)
        yield seen


def _one_call_each(
    seen: dict[str, list[tuple[Tensor, Tensor]]], names: Sequence[str], ids: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    for name in names:
        calls = seen[name]
        if len(calls) != 1 or calls[0][0].shape[:-1] != ids.shape:
            shapes = [tuple(x.shape) for x, _ in calls]
            raise UnsupportedModelError(
                f"{name} was called with {shapes} for rows of the shape {tuple(ids.shape)}; gradients by row need one "
                "call that sees every position (a mixture of experts has none)"
            )
    return [seen[name][0][0] for name in names], [seen[name][0][1] for name in names]


def _of_rows(logits: Tensor, batch: ScoredRows, reduction: Reduction) -> Tensor:
    """Return the loss of each row ``[B]`` from logits ``[n, V]``."""
    loss = torch.nn.functional.cross_entropy(logits, batch.wanted, reduction="none")
    count = len(batch.inputs.ids)
    sums = torch.zeros(count, dtype=loss.dtype, device=loss.device).index_add(0, batch.rows, loss)
    return sums / torch.bincount(batch.rows, minlength=count).clamp(min=1) if reduction == "mean" else sums


def _places(batch: ScoredRows, kept: Kept) -> tuple[Tensor, Tensor]:
    if kept == "scored":
        return batch.rows, batch.positions
    rows, positions = batch.inputs.mask[:, -batch.inputs.ids.shape[1] :].nonzero(as_tuple=True)
    return rows, positions
