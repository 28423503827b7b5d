"""What is frozen under a mixture, computed once; only the layers from the first edited one on are run again."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from memedit.models.hooks import contiguous_head
from memedit.models.kv_cache import cache_argument, cache_name
from memedit.models.mixture_hooks import Mixture, Placement, Weights, mixture_rows
from memedit.models.partial import UpperLayers
from memedit.training.elder.variants import Exercise


@dataclass(frozen=True, slots=True)
class FrozenRows:
    """Exercises of equal answer length as the edited layers first see them; b rows of q fed tokens.

    ``hidden [b, q, d]`` is what the first edited layer is fed at the columns that are run again, ``prefix`` the keys
    and values of the columns before them in the layers from there on (None where all columns are run again), ``mask``
    that of all columns, ``positions [b, q]``, ``labels [b, n]`` the answers, ``states [b, d]`` the query's last state.
    ``own`` and ``number`` are those of the exercises.
    """

    hidden: Tensor
    prefix: list[tuple[Tensor, Tensor]] | None
    mask: Tensor
    positions: Tensor
    labels: Tensor
    states: Tensor
    own: Tensor
    number: Tensor

    def select(self, chosen: Tensor) -> "FrozenRows":
        """Return some of the rows, by index."""
        prefix = self.prefix
        if prefix is not None:
            prefix = [(keys[chosen], values[chosen]) for keys, values in prefix]
        tensors = (self.mask, self.positions, self.labels, self.states, self.own, self.number)
        return FrozenRows(self.hidden[chosen], prefix, *(tensor[chosen] for tensor in tensors))


class FrozenBase:
    """The frozen model, cut below the first edited layer.

    Args:
        model: the causal LM; every parameter frozen.
        first: the first edited layer.
        span: ``"answer"``: the mixture acts from the query's last token on, so that all before it is frozen too;
            ``"all"``: it acts on whole rows.
    """

    def __init__(self, model: Any, first: int, span: str) -> None:
        self.model, self.span = model, span
        self.upper = UpperLayers(model, first)
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    @torch.no_grad()
    def freeze(self, exercises: Sequence[Exercise], *, rows: int, pad: int) -> list[FrozenRows]:
        """Compute what is frozen of the exercises, in groups of one answer length and at most ``rows`` rows."""
        order = sorted(exercises, key=lambda e: (len(e.answer), len(e.query)))
        groups = []
        for _, same in groupby(order, key=lambda e: len(e.answer)):
            members = list(same)
            groups += [self._frozen(members[at : at + rows], pad) for at in range(0, len(members), rows)]
        return groups

    def _frozen(self, rows: Sequence[Exercise], pad: int) -> FrozenRows:
        fed = [row.query + row.answer[:-1] for row in rows]
        width, answer = max(map(len, fed)), len(rows[0].answer)
        device = self.model.device
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in fed], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in fed], device=device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        kept = self.span == "answer"
        with self.upper.recorded() as record:
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                use_cache=kept,
                logits_to_keep=1,
                **self._positions(positions),
            )
        start = width - answer
        cut = start if kept else 0
        prefix = self.upper.cached(out[cache_name(self.model)], cut) if kept and cut else None
        return FrozenRows(
            hidden=record[0][:, cut:].clone(),
            prefix=prefix,
            mask=mask,
            positions=positions[:, cut:],
            labels=torch.tensor([row.answer for row in rows], device=device),
            states=record[0][:, start].clone(),
            own=torch.tensor([row.own for row in rows], device=device),
            number=torch.tensor([row.number for row in rows], device=device),
        )

    def logits(self, rows: FrozenRows, terms: Sequence[Mixture], weights: Weights | None) -> Tensor:
        """Return the logits ``[b, n, v]`` that predict the answers; the bare model's without ``weights``.

        Differentiable in terms and weights.
        """
        count, width = rows.hidden.shape[:2]
        answer = rows.labels.shape[1]
        cache = None if rows.prefix is None else self.upper.cache(rows.prefix)
        place = Placement(tuple(range(count)), (0,) * count, count, width)
        mixed: AbstractContextManager[None] = nullcontext()
        if weights is not None:
            fed = [_in_dtype(term, rows.hidden.dtype) for term in terms]
            own = tuple(None if w is None else w.to(rows.hidden.dtype) for w in weights)
            mixed = mixture_rows(self.model, fed, place, weights=own)
        with self.upper.entered(rows.hidden), mixed, contiguous_head(self.model):
            out = self.model(
                input_ids=rows.mask.new_zeros((count, width)),
                attention_mask=rows.mask,
                use_cache=cache is not None,
                logits_to_keep=answer,
                **cache_argument(self.model, cache),
                **self._positions(rows.positions),
            )
        found: Tensor = out.logits[:, -answer:]
        return found

    def _positions(self, positions: Tensor) -> dict[str, Tensor]:
        return {"position_ids": positions} if self._takes_positions else {}


def _in_dtype(term: Mixture, dtype: torch.dtype) -> Mixture:
    return Mixture(term.name, term.down.to(dtype), None if term.up is None else term.up.to(dtype))
