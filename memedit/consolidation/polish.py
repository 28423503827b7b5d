"""Polishing: a descent, from the joint solution, on what is wanted of the edited model as a whole.

The closed form knows an edit by its subject's last token and ordinary text by second moments. With a thousand edits
that is too little: what they do to each other's rows, and to text, is not what each was solved for. Starting from it,
the changes of all layers are moved together down the gradient of

    mean over edits of max(0, NLL(target) - stop_loss)        behind passing text and without, in other words at times
    + ``TEXT_WEIGHT`` KL(base, edited)                        on the statistics' text and text of the model's own
    + ``SWAP_WEIGHT`` KL(base, edited)                        behind edits' prompts about others than their subjects

with Adam, in coordinates in which keys of ordinary text are white (``D (C / mean + EASE)^1/2``): steps go furthest
where ordinary text has no keys, as the closed form's do. Each step also takes back a little of the changes (decoupled
weight decay, Loshchilov and Hutter 2019), whose length in these coordinates is the closed form's own price of harm to
text: what no edit needs goes. What comes out is the running mean of the iterates (Polyak and Juditsky 1992), since a
step sees few edits and little text, less what some more steps would take back: much of it is noise that moves unlikely
answers, where edits have a margin. It is a function of the set of edits, settings and base, as the closed form is:
edits come in the order of their ids and all draws go by the seed.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings, EditRequest, digest
from memedit.consolidation.contexts import opening_ids
from memedit.consolidation.kept import keep_tensors, kept_file, read_kept
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.names import other_names
from memedit.consolidation.polish_rows import AskedRow, RowMaker
from memedit.consolidation.samples import own_samples
from memedit.consolidation.site import EditSite
from memedit.consolidation.statistics import OWN, Statistics
from memedit.consolidation.wordings import known_wordings, other_wordings
from memedit.models import LoadedModel
from memedit.models.fingerprint import tokenizer_digest
from memedit.models.row_groups import bucket_by_length
from memedit.models.segments import Inputs, Segments, pad_right, unpadded
from memedit.models.training import training_copy
from memedit.types import WeightTerm

TEXT_WEIGHT, SWAP_WEIGHT = 40.0, 0.45
EASE = 0.1
"""Added to the eigenvalues of the key statistics, in units of their mean."""
EDITS, SWAPS, WINDOWS = 64, 36, 8
"""Rows of edits, rows with exchanged subjects (see :class:`RowMaker`) and windows of text in a step."""
GIVEN = 3
"""Windows of the caller's text for each of the model's own."""
WINDOW, TOKENS = 128, 20_000
"""Tokens of a window, and of all text."""
STEP_TOKENS = 20 * (EDITS + SWAPS) + WINDOWS * WINDOW
"""About so many tokens go through the model in a step."""
RATE, WARMUP = 0.05, 5
"""Length of a step in units of the start's root mean square entry, and steps until it is reached."""
DECAY = 0.0015
"""Share of the changes that a step takes back, at its full length."""
COOLING = 0.3
"""Steps that only take back, at the end, for each step before."""
MEMORY = 0.95
"""Weight of the past in the running mean."""
_AT_ONCE = 2
_ROW_TOKENS = 1024
"""About so many tokens, padding included, go through the model at once."""


def polished(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    terms: Mapping[str, WeightTerm],
    statistics: Statistics,
    settings: ConsolidationSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, WeightTerm]:
    """Return better changes of the edited weights than ``terms``.

    Args:
        loaded: the frozen base; the descent runs on a copy, in bfloat16 where the processor computes in it.
        requests: the edits, in the order of their ids.
        terms: the changes by module name, as they were solved for.
        statistics: second moments of the keys.
        settings: ``polish`` counts the steps.
        progress: called with (steps done, steps).

    Returns:
        changes of the same modules and of those in ``polish_layers``, dense.

    Raises:
        ModelNotFoundError: there is no MiniLM, by which wordings are compared.
    """
    site = EditSite.of(loaded, settings)
    solved = {layer for layer in site.layers if site.module_name(layer) in terms}
    layers = {layer: site.module_name(layer) for layer in sorted({*solved, *settings.polish_layers})}
    shape = (site.linear.out_features, site.linear.in_features)
    start = {
        layer: torch.from_numpy(terms[name].matrix()).double() if layer in solved else torch.zeros(shape).double()
        for layer, name in layers.items()
    }
    run = _Descent(loaded, start, {layer: statistics.of(layer) for layer in layers}, settings)
    wordings = [find(loaded, requests, seed=settings.seed) for find in (other_wordings, known_wordings)]
    texts = _texts(loaded, statistics, settings)
    read = [loaded.tokenizer.decode(window, skip_special_tokens=True) for source in texts for window in source]
    names = other_names([request.subject.strip() for request in requests if request.subject], read)
    rows = RowMaker(loaded.tokenizer, requests, texts, settings.seed, wordings, names=names)
    for step in range(settings.polish):
        run.step(step, rows)
        if progress is not None:
            progress(step + 1, settings.polish)
    return {layers[layer]: WeightTerm(dense=change.numpy()) for layer, change in run.changes().items()}


class _Descent:
    """The changes under way: ``points`` in white coordinates, ``means`` their running means."""

    def __init__(
        self,
        loaded: LoadedModel,
        start: Mapping[int, Tensor],
        moments: Mapping[int, LayerMoments],
        settings: ConsolidationSettings,
    ) -> None:
        self._model = training_copy(loaded.model, "auto", own=True)
        self._segments, self._settings = Segments(self._model), settings
        self._site = EditSite.of(loaded, settings)
        self._layers = sorted(start)
        device = self._model.device
        white = {layer: _whitening(moments[layer]) for layer in self._layers}
        self._back = {layer: root.to(device) for layer, (root, _) in white.items()}
        self._base = {n: self._site.weight(loaded.model, n).float().to(device, copy=True) for n in self._layers}
        self._points = {n: (start[n] @ white[n][1].double()).float().to(device) for n in self._layers}
        self._means = {n: point.clone() for n, point in self._points.items()}
        lengths = [float(point.square().mean().sqrt()) for point in self._points.values()]
        usual = sum(lengths) / max(1, sum(length > 0 for length in lengths))  # of those that the closed form moved
        groups = [
            {"params": [point], "length": length or usual}
            for point, length in zip(self._points.values(), lengths, strict=True)
        ]
        self._adam = torch.optim.Adam(groups, lr=0.0, betas=(0.95, 0.98))
        self._first = self._layers[0]
        self._edited = self._base

    def changes(self) -> dict[int, Tensor]:
        """Return the running means, less what is taken back at the end, as changes of weights, float64."""
        left = (1 - DECAY) ** (COOLING * self._settings.polish)
        return {n: (mean @ self._back[n]).double().cpu() * left for n, mean in self._means.items()}

    def step(self, step: int, rows: RowMaker) -> None:
        """Move by one step."""
        share = min(1.0, (step + 1) / WARMUP) * (
            0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self._settings.polish))
        )
        for group in self._adam.param_groups:
            group["lr"] = RATE * group["length"] * share
        edits, swapped, texts = rows.edits(EDITS), rows.swapped(SWAPS), rows.texts(WINDOWS)
        self._edited = self._weights()
        self._write(self._edited)
        self._asked([*edits, *swapped])
        for at in range(0, len(texts), _AT_ONCE):
            self._text(texts[at : at + _AT_ONCE], TEXT_WEIGHT / len(texts) * len(texts[at : at + _AT_ONCE]))
        for layer, point in self._points.items():
            point.grad = self._taken(layer) @ self._back[layer].T
        self._adam.step()
        kept = min(MEMORY, (step + 1) / (step + 9))
        for layer, mean in self._means.items():
            point = self._points[layer].mul_(1 - DECAY * share)
            mean.mul_(kept).add_(point, alpha=1 - kept)

    def _asked(self, rows: Sequence[AskedRow]) -> None:
        """Add the gradients of edits (rows with wanted tokens) and of prompts that are the base's to answer."""
        edits = sum(bool(row.wanted) for row in rows)
        for part in bucket_by_length(rows, tokens=_ROW_TOKENS):
            loss = self._asked_loss(part, edits=edits, free=len(rows) - edits)
            loss.backward()  # type: ignore[no-untyped-call]

    def _asked_loss(self, rows: Sequence[AskedRow], *, edits: int, free: int) -> Tensor:
        """Return what some rows add to the loss, of so many edits and other prompts in all."""
        inputs, state = self._lower([row.ids for row in rows])
        asked = [(i, row) for i, row in enumerate(rows) if row.wanted]
        others = [(i, row.start) for i, row in enumerate(rows) if not row.wanted]
        scored = [(i, row.start + at) for i, row in asked for at in range(len(row.wanted))]
        device = state.device
        owner = torch.tensor(
            [n for n, (_, row) in enumerate(asked) for _ in row.wanted], dtype=torch.long, device=device
        )
        wanted = torch.tensor([token for _, row in asked for token in row.wanted], dtype=torch.long, device=device)
        base = self._of_base(inputs, state, others) if others else None
        found = self._log_probabilities(inputs, state, [*scored, *others])
        losses = torch.zeros(len(asked), device=device).index_add(0, owner, -found[range(len(wanted)), wanted])
        losses = losses / torch.bincount(owner, minlength=len(asked))
        loss = (losses - self._settings.stop_loss).clamp(min=0).sum() / max(edits, 1)
        if base is not None:
            loss = loss + SWAP_WEIGHT * len(others) / free * _divergence(base, found[len(wanted) :])
        return loss

    def _text(self, windows: Sequence[Sequence[int]], weight: float) -> None:
        """Add the gradient of what text loses; each window's first token, which parks attention, is left out."""
        inputs, state = self._lower(windows)
        places = [(i, at) for i, window in enumerate(windows) for at in range(1, len(window))]
        base = self._of_base(inputs, state, places)
        loss = weight * _divergence(base, self._log_probabilities(inputs, state, places))
        loss.backward()  # type: ignore[no-untyped-call]

    def _lower(self, rows: Sequence[Sequence[int]]) -> tuple[Inputs, Tensor]:
        """Return inputs, and the hidden states in front of the first edited layer, which no edit changes."""
        inputs = Inputs.of(rows, self._model.device)
        with torch.no_grad():
            return inputs, self._segments.hidden(inputs, last=self._first - 1)[0]

    def _log_probabilities(self, inputs: Inputs, state: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        at = torch.tensor(places, device=state.device)
        found = self._segments.logits(inputs, (at[:, 0], at[:, 1]), first=self._first, start=state)
        return found.float().log_softmax(-1)

    @torch.no_grad()
    def _of_base(self, inputs: Inputs, state: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        with self._on_base():
            return self._log_probabilities(inputs, state, places)

    @contextmanager
    def _on_base(self) -> Iterator[None]:
        """Let the copy have the base's weights inside."""
        self._write(self._base)
        try:
            yield
        finally:
            self._write(self._edited)

    def _weights(self) -> dict[int, Tensor]:
        """Return the edited weights ``[d_out, d_in]``; they stay the same for a whole step."""
        return {n: self._base[n] + point @ self._back[n] for n, point in self._points.items()}

    def _write(self, weights: Mapping[int, Tensor]) -> None:
        for layer, weight in weights.items():
            self._parameter(layer).data.copy_(self._oriented(weight))

    def _taken(self, layer: int) -> Tensor:
        """Return the gradient of a layer's weight ``[d_out, d_in]``, float32, and forget it."""
        parameter = self._parameter(layer)
        assert parameter.grad is not None
        gradient = self._oriented(parameter.grad.float())
        parameter.grad = None
        return gradient

    def _parameter(self, layer: int) -> Tensor:
        parameter: Tensor = self._model.get_parameter(f"{self._site.module_name(layer)}.weight")
        return parameter.requires_grad_()

    def _oriented(self, weight: Tensor) -> Tensor:
        """Turn a weight from ``[d_out, d_in]`` to the model's orientation, or back."""
        return weight.T if self._site.linear.transposed else weight


def _whitening(moments: LayerMoments) -> tuple[Tensor, Tensor]:
    """Return ``(C / mean + EASE)^(-1/2)`` and its inverse, float32."""
    roots = (moments.values / max(moments.scale, 1e-30) + EASE).sqrt()
    vectors = moments.vectors
    return ((vectors / roots) @ vectors.T).float(), ((vectors * roots) @ vectors.T).float()


def _divergence(base: Tensor, found: Tensor) -> Tensor:
    """Return the mean KL(base, found) of log probabilities ``[n, v]``, in nats a token."""
    return (base.exp() * (base - found)).sum(-1).mean()


def own_windows(loaded: LoadedModel, settings: ConsolidationSettings, *, store: Path | None = None) -> list[list[int]]:
    """Return windows of the model's own text, or read them when they are kept already.

    Args:
        loaded: the frozen base.
        settings: its seed counts.
        store: folder they are kept in; None is ``windows`` under :func:`~memedit.cache.cache_home`.
    """
    key = digest(
        {
            "base": loaded.fingerprint,
            "seed": settings.seed,
            "window": WINDOW,
            "tokens": TOKENS,
            "dtype": str(loaded.model.dtype),
            "tokenizer": tokenizer_digest(loaded.tokenizer),
            "transformers": transformers.__version__,
        }
    )
    path = kept_file("windows", key, store)
    kept = read_kept(path, key, lambda tensors, _: unpadded(tensors["ids"], tensors["lengths"]))
    if kept is not None:
        return kept
    windows = own_samples(loaded, tokens=TOKENS, window=WINDOW, seed=settings.seed + 1)
    ids, mask = pad_right(windows, 0)
    keep_tensors(path, {"ids": ids, "lengths": mask.sum(1)}, {"key": key})
    return windows


def _texts(loaded: LoadedModel, statistics: Statistics, settings: ConsolidationSettings) -> list[list[Sequence[int]]]:
    """Return windows of the model's own text, and ``GIVEN`` times those of the text the statistics are from, if any."""
    if statistics.source == OWN:
        return [[window[:WINDOW] for window in statistics.windows]]
    return [[*own_windows(loaded, settings)], *[_given(loaded, statistics)] * GIVEN]


def _given(loaded: LoadedModel, statistics: Statistics) -> list[Sequence[int]]:
    """Return the text of the statistics in windows that open as texts do."""
    opening = list(opening_ids(loaded.tokenizer))
    length = WINDOW - len(opening)
    ids = [token for window in statistics.windows for token in window]
    return [[*opening, *ids[at : at + length]] for at in range(0, len(ids), length) if len(ids) - at > 1]
