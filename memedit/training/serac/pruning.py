"""Which layers of the base a counterfactual model keeps: greedy layer pruning (Peer et al., 2022, arXiv 2105.14839)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from memedit.adapters.serac.counterfactual import cut
from memedit.errors import InputError
from memedit.models.row_groups import bucket_by_length
from memedit.models.spec import ModelSpec
from memedit.models.token_rows import TokenRow, answers_loss, pad_rows

Progress = Callable[[int, int], None]
"""Called with (layers left out, layers to leave out)."""


def choose_layers(
    base: Any,
    rows: Sequence[TokenRow],
    count: int,
    *,
    pad_id: int = 0,
    micro_tokens: int = 1024,
    progress: Progress | None = None,
) -> tuple[int, ...]:
    """Return the numbers of the ``count`` layers with which ``base`` says the answers of ``rows`` best.

    One layer after the other is left out: the one without which the cross-entropy of the answers is least. What copies
    an answer out of the edit is a few layers in the middle, which a cut by position loses. The base is not changed.

    Raises:
        InputError: the base has fewer layers, or none are to be kept.
        UnsupportedModelError: its layers cannot be found.
    """
    keep = tuple(range(ModelSpec.of(base).n_layers))
    drops = len(keep) - count
    if count < 1 or drops < 0:
        raise InputError(f"cannot keep {count} layers of a model that has {len(keep)}")
    groups = [pad_rows(group, pad_id) for group in bucket_by_length(rows, tokens=micro_tokens)]

    @torch.no_grad()
    def loss(layers: Sequence[int]) -> float:
        model = cut(base, layers)
        return sum(float(answers_loss(model, group)) for group in groups)

    for done in range(drops):
        shorter = [tuple(layer for layer in keep if layer != left_out) for left_out in keep]
        keep = min(shorter, key=loss)
        if progress is not None:
            progress(done + 1, drops)
    return keep
