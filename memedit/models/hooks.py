"""The only code that touches live modules: context managers that take every hook away again, exceptions included.

Three effects, all per row of a batch, and one on speed alone (:func:`contiguous_head`):

* :func:`low_rank_rows`: low-rank (LoRA) terms on chosen rows, other rows bit-untouched;
* :func:`override_embeddings`: input embeddings replaced at chosen positions (continuous prompts);
* :func:`capture`: inputs and outputs of modules as they pass.

``generate`` may repeat each row r times (beams, several sequences): row i of the caller's batch is then rows
``i*r .. i*r+r-1`` of every tensor. All hooks read r off the tensors they see.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import InputError, UnsupportedModelError


@dataclass(frozen=True, slots=True)
class LowRank:
    """A low-rank term of one module: ``output += (x @ down.T) @ up.T`` (LoRA, arXiv 2106.09685).

    ``down`` is ``[r, d_in]``, ``up`` ``[d_out, r]`` with the scaling folded in, whatever the orientation of the
    module's own weight (``Linear`` or GPT-2's ``Conv1D``).
    """

    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class LowRankGroup:
    """Low-rank terms of modules that read the same input, stacked so that one product serves all.

    ``down`` is ``[sum r, d_in]``; ``up`` ``[sum d_out, sum r]`` block-diagonal; ``bounds[i]`` says which of the
    stacked outputs belong to ``names[i]``.
    """

    names: tuple[str, ...]
    down: Tensor
    up: Tensor
    bounds: tuple[tuple[int, int], ...]


def shared_inputs(model: nn.Module, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Group modules that are fed the very same tensor (query, key and value projections, say), in calling order.

    Found by one forward pass on two tokens, so that no list of architectures is needed.

    Raises:
        UnsupportedModelError: a module does not exist or was not called.
    """
    calls: list[tuple[str, Tensor]] = []
    with ExitStack() as stack:
        for name in names:
            module = _module(model, name)
            handle = module.register_forward_hook(lambda _m, args, _o, name=name: calls.append((name, args[0])))
            stack.callback(handle.remove)
        with torch.no_grad():
            model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=_device(model)), use_cache=False)
    missing = sorted(set(names) - {name for name, _ in calls})
    if missing:
        raise UnsupportedModelError(f"modules {missing} of {type(model).__name__} take no part in its forward pass")
    groups: list[tuple[Tensor, list[str]]] = []
    for name, tensor in calls:
        for seen, members in groups:
            if seen is tensor:
                members.append(name)
                break
        else:
            groups.append((tensor, [name]))
    return tuple(tuple(members) for _, members in groups)


def stack_low_rank(
    weights: Mapping[str, LowRank],
    groups: Sequence[Sequence[str]],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> tuple[LowRankGroup, ...]:
    """Stack the terms of every group of :func:`shared_inputs`; differentiable in the terms."""
    stacked = []
    for names in groups:
        terms = [weights[name] for name in names]
        ups = [term.up for term in terms]
        ends = torch.tensor([len(up) for up in ups]).cumsum(0).tolist()
        stacked.append(
            LowRankGroup(
                names=tuple(names),
                down=torch.cat([term.down for term in terms]).to(device=device, dtype=dtype),
                up=torch.block_diag(*ups).to(device=device, dtype=dtype),  # type: ignore[no-untyped-call]
                bounds=tuple(zip([0, *ends[:-1]], ends, strict=True)),
            )
        )
    return tuple(stacked)


@contextmanager
def low_rank_rows(
    model: nn.Module, groups: Sequence[LowRankGroup], *, rows: Sequence[int], batch: int
) -> Iterator[None]:
    """Add low-rank terms to the outputs of modules on ``rows`` of a batch of ``batch`` rows.

    Rows that are not named keep their outputs bit for bit: the terms are computed and added for the chosen rows
    alone. Works at every step of decoding with a key-value cache. ``groups`` must be on the model's device and in
    its dtype.

    Raises:
        InputError: a row lies outside the batch.
        UnsupportedModelError: a module does not exist, or the model folds rows together so that they cannot be told
            apart.
    """
    selection = ChosenRows(tuple(sorted(set(rows))), batch)
    if not selection.rows:
        yield
        return
    with ExitStack() as stack:
        for group in groups:
            for hook, name in zip(_group_hooks(group, selection), group.names, strict=True):
                stack.callback(_module(model, name).register_forward_hook(hook).remove)
        yield


@dataclass(frozen=True, slots=True)
class EmbeddingOverride:
    """Embeddings ``vectors`` ``[n, d_model]`` to stand at positions ``start .. start+n-1`` of row ``row``.

    Positions count from the left edge of the batch as it is fed, padding included. The vectors replace what the
    embedding module returns, after any scaling it does.
    """

    row: int
    start: int
    vectors: Tensor


@contextmanager
def override_embeddings(
    model: nn.Module, overrides: Sequence[EmbeddingOverride], *, batch: int, length: int
) -> Iterator[None]:
    """Replace input embeddings at chosen positions of a batch ``[batch, length]``.

    Decoding steps with a cache (and prompts fed in chunks) count on from where the last call ended; a call of at
    least ``length`` tokens starts again from position 0, so running without a cache works too.

    Raises:
        InputError: an override lies outside the batch.
        UnsupportedModelError: the model names no input embedding module.
    """
    for item in overrides:
        if not 0 <= item.row < batch or item.start < 0 or item.start + len(item.vectors) > length:
            raise InputError(
                f"embedding override of row {item.row}, positions {item.start}..{item.start + len(item.vectors) - 1} "
                f"lies outside the batch of {batch} rows by {length} tokens"
            )
    if not overrides:
        yield
        return
    handle = _input_embeddings(model).register_forward_hook(_override_hook(tuple(overrides), batch, length))
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True, slots=True)
class Captured:
    """What passed through modules, by module name, one tensor per call in calling order."""

    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)


@contextmanager
def capture(
    model: nn.Module, names: Sequence[str], *, inputs: bool = True, outputs: bool = True, detach: bool = True
) -> Iterator[Captured]:
    """Record the first positional input and the (first) output of the named modules.

    With ``detach`` the tensors are detached and cloned, so later in-place work on them cannot change the record;
    without it they stay part of the autograd graph.

    Raises:
        UnsupportedModelError: a module does not exist.
    """
    record = Captured()

    def keep(tensor: Tensor) -> Tensor:
        return tensor.detach().clone() if detach else tensor

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, args: Any, output: Any) -> None:
            if inputs:
                record.inputs.setdefault(name, []).append(keep(args[0]))
            if outputs:
                first = output[0] if isinstance(output, tuple) else output
                record.outputs.setdefault(name, []).append(keep(first))

        return hook

    with ExitStack() as stack:
        for name in names:
            stack.callback(_module(model, name).register_forward_hook(hook_for(name)).remove)
        yield record


@contextmanager
def contiguous_head(model: nn.Module) -> Iterator[None]:
    """Let the output layer read its hidden states in one piece.

    What ``logits_to_keep`` leaves of them is a slice. In bfloat16 on a processor torch then copies the vocabulary's
    matrix once for every row of the batch, which takes several times as long as all layers together.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        raise UnsupportedModelError(f"{type(model).__name__} names no output layer")
    handle = head.register_forward_pre_hook(lambda _module, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


class ChosenRows:
    """Chosen rows of a batch, as indices into tensors whose rows may be repeated."""

    def __init__(self, rows: tuple[int, ...], batch: int) -> None:
        if rows and not (rows[0] >= 0 and rows[-1] < batch):
            raise InputError(f"rows {list(rows)} do not all lie in a batch of {batch} rows")
        self.rows, self.batch = rows, batch
        self._indices: dict[tuple[int, torch.device], Tensor | None] = {}

    def indices(self, count: int, device: torch.device) -> Tensor | None:
        """Return the indices of the chosen rows in a tensor of ``count`` rows; None when all are chosen."""
        key = (count, device)
        if key not in self._indices:
            repeat, rest = divmod(count, self.batch)
            if rest or not repeat:
                raise UnsupportedModelError(
                    f"a module saw {count} rows for a batch of {self.batch}: rows cannot be told apart in this model"
                )
            chosen = [row * repeat + copy for row in self.rows for copy in range(repeat)]
            whole = len(chosen) == count
            self._indices[key] = None if whole else torch.tensor(chosen, device=device)
        return self._indices[key]


def _group_hooks(group: LowRankGroup, selection: ChosenRows) -> list[Callable[[nn.Module, Any, Tensor], Tensor]]:
    """Return one hook per module of the group; the first to see an input computes the terms of all."""
    seen: list[Tensor] = []  # [input, terms] while the group's modules are being called, else empty

    def terms_of(source: Tensor, index: Tensor | None) -> Tensor:
        if not (seen and seen[0] is source):
            chosen = source if index is None else source.index_select(0, index)
            terms = nn.functional.linear(nn.functional.linear(chosen, group.down), group.up)
            seen[:] = [source, terms]
        return seen[1]

    def hook_for(position: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        low, high = group.bounds[position]
        last = position == len(group.names) - 1

        def hook(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
            index = selection.indices(output.shape[0], output.device)
            terms = terms_of(args[0], index)[..., low:high]
            if last:
                seen.clear()
            if index is None:
                return output.add_(terms) if not output.requires_grad else output + terms
            if output.requires_grad:
                return output.index_add(0, index, terms)
            return output.index_add_(0, index, terms)

        return hook

    return [hook_for(position) for position in range(len(group.names))]


def _override_hook(
    overrides: tuple[EmbeddingOverride, ...], batch: int, length: int
) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Return a hook that follows the position of each call and replaces what falls into it."""
    consumed: list[int] = []  # tokens fed by each call so far

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        count, width = output.shape[0], output.shape[1]
        repeat, rest = divmod(count, batch)
        if rest or not repeat:
            raise UnsupportedModelError(f"the embedding saw {count} rows for a batch of {batch}")
        restart = not consumed or width > length or (width == length and length > 1)
        start = 0 if restart else sum(consumed)
        if restart:
            consumed.clear()
        consumed.append(width)
        if start >= length:
            return output
        changed = output.clone()
        for item in overrides:
            low, high = max(item.start, start), min(item.start + len(item.vectors), start + width)
            if low < high:
                part = item.vectors[low - item.start : high - item.start].to(changed)
                changed[item.row * repeat : (item.row + 1) * repeat, low - start : high - start] = part
        return changed

    return hook


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise UnsupportedModelError(f"{type(model).__name__} has no module {name!r}") from error


def _input_embeddings(model: nn.Module) -> nn.Module:
    getter = getattr(model, "get_input_embeddings", None)
    module = getter() if getter is not None else None
    if not isinstance(module, nn.Module):
        raise UnsupportedModelError(f"{type(model).__name__} names no input embedding module")
    return module


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
