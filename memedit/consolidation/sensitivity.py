"""How much the model's predictions hang on the hidden state behind the top edited layer, direction by direction.

That is the Fisher information of the state, ``F = E[g g^T]`` with ``g`` the gradient of the log-likelihood of what the
model itself predicts. A change ``d`` of the state everywhere would cost about ``d^T F d / 2`` nats a token, so targets
that are reached where ``F`` is small do the least harm to everything else. Targets are optimised by natural gradient
(Amari 1998; with the second moment of the keys in the solve these are the two factors of K-FAC, arXiv 1503.05671).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import transformers
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings, digest
from memedit.consolidation.kept import keep_tensors, kept_file, read_kept
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.samples import own_samples
from memedit.consolidation.site import EditSite
from memedit.consolidation.statistics import WINDOW
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.fingerprint import tokenizer_digest
from memedit.models.segments import Inputs, Segments, frozen

VERSION = 1
"""Raised when the sensitivity is computed differently, so that a kept one is not used again."""
_ROWS = 4


def natural_direction(fisher: LayerMoments, damping: float) -> Tensor:
    """Return ``(F / mean + damping)^-1`` ``[d_model, d_model]``, float32, ``mean`` being F's mean eigenvalue."""
    if fisher.scale == 0.0:
        return torch.eye(len(fisher.values))
    return ((fisher.vectors / (fisher.values / fisher.scale + damping)) @ fisher.vectors.T).float()


def sensitivity(loaded: LoadedModel, settings: ConsolidationSettings, *, store: Path | None = None) -> LayerMoments:
    """Return the Fisher information behind the top edited layer, or read it when it is kept already.

    The text is the model's own (:func:`~memedit.consolidation.samples.own_samples`), so that it depends on base and
    settings alone, as an edit's target must.

    Args:
        loaded: the frozen base.
        settings: its layers, ``sensitivity_tokens`` and seed count.
        store: folder it is kept in; None is ``sensitivity`` under :func:`~memedit.cache.cache_home`.
    """
    top = EditSite.of(loaded, settings).layers[-1]
    path, key = _place(loaded, top, settings, store)
    kept = read_kept(path, key, lambda tensors, header: LayerMoments(count=int(header["count"]), **tensors))
    if kept is not None:
        return kept
    measured = _measured(loaded, top, settings)
    tensors = {"values": measured.values, "vectors": measured.vectors.contiguous()}
    keep_tensors(path, tensors, {"key": key, "count": str(measured.count)})
    return measured


def sensitivity_kept(loaded: LoadedModel, settings: ConsolidationSettings, *, store: Path | None = None) -> bool:
    """Say whether :func:`sensitivity` would find what it needs."""
    return _place(loaded, EditSite.of(loaded, settings).layers[-1], settings, store)[0].is_file()


def _place(loaded: LoadedModel, layer: int, settings: ConsolidationSettings, store: Path | None) -> tuple[Path, str]:
    """Return the file that it is kept in, and the key that stands there."""
    key = digest(_identity(loaded, layer, settings))
    return kept_file("sensitivity", key, store), key


def _identity(loaded: LoadedModel, layer: int, settings: ConsolidationSettings) -> Mapping[str, object]:
    return {
        "version": VERSION,
        "base": loaded.fingerprint,
        "layer": layer,
        "tokens": settings.sensitivity_tokens,
        "seed": settings.seed,
        "window": WINDOW,
        "dtype": str(loaded.model.dtype),
        "tokenizer": tokenizer_digest(loaded.tokenizer),
        "transformers": transformers.__version__,
    }


def _measured(loaded: LoadedModel, layer: int, settings: ConsolidationSettings) -> LayerMoments:
    tokens = settings.sensitivity_tokens
    windows = own_samples(loaded, tokens=tokens, window=min(WINDOW, tokens), seed=settings.seed)
    segments, draws = Segments(loaded.model), torch.Generator().manual_seed(settings.seed)
    total: Tensor | None = None
    count = 0
    with frozen(loaded.model):
        for start in range(0, len(windows), _ROWS):
            gradients = _gradients(segments, layer, windows[start : start + _ROWS], draws)
            moment = (gradients.T @ gradients).double().cpu()
            total = moment if total is None else total + moment
            count += len(gradients)
    if total is None:
        raise InputError(f"sensitivity_tokens={tokens} leave no token to measure at; take more")
    return LayerMoments.of(total / count, count)


def _gradients(segments: Segments, layer: int, windows: Sequence[Sequence[int]], draws: torch.Generator) -> Tensor:
    """Return the gradient ``[n, d_model]`` at every token but each window's first, which parks attention."""
    device = segments.model.device
    inputs = Inputs.of(windows, device)
    with torch.no_grad():
        state, _ = segments.hidden(inputs, last=layer)
    state = state.detach().requires_grad_()
    rows, positions = inputs.mask.bool().nonzero(as_tuple=True)
    logits = segments.logits(inputs, (rows, positions), first=layer + 1, start=state).float()
    drawn = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=draws)[:, 0].to(device)
    loss = torch.nn.functional.cross_entropy(logits, drawn, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, state)
    later = positions > 0
    found: Tensor = gradient[rows[later], positions[later]].float()
    return found
