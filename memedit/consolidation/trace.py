"""Causal tracing: at which tokens and in which layers a model recalls facts (ROME, arXiv 2202.05262, section 2).

The subject's embeddings are drowned in noise, and the model forgets the answer. Then one clean hidden state (or the
clean outputs of an MLP or an attention module over a window of layers) is put back at one token. How much of the
answer's probability returns is the indirect effect of that place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memedit.consolidation.base import EditRequest
from memedit.consolidation.contexts import opening_ids
from memedit.consolidation.rows import subject_tokens
from memedit.errors import InputError
from memedit.models import LoadedModel
from memedit.models.hooks import capture
from memedit.models.segments import Inputs, Segments, frozen, outputs_patched

PLACES = (
    "first subject token", "middle subject tokens", "last subject token",
    "first later token", "later tokens", "last token",
)  # fmt: skip
KINDS = ("state", "mlp", "attention")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Trace:
    """Mean indirect effects.

    Attributes:
        effects: for each of :data:`KINDS` ``[len(PLACES), n_layers]``: how much probability of the answer returns.
            The state behind the last layer is left out (0): nothing reads it but the last token's own prediction.
        clean, corrupted: mean probability of the answer, without and with noise on the subject.
        facts: facts that were traced; those whose answer the noise does not hide are not.
        window: layers that are restored together, of MLPs and of attention.
        layers: layers proposed for edits, see :func:`propose_layers`.
    """

    effects: Mapping[str, np.ndarray]
    clean: float
    corrupted: float
    facts: int
    window: int
    layers: tuple[int, ...]


def trace_layers(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    *,
    noise: float = 3.0,
    window: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trace:
    """Trace facts through a model. The answer traced is the model's own next token; targets are not looked at.

    Args:
        loaded: the model; nothing of it is changed.
        requests: prompts with their subjects.
        noise: standard deviation of the noise, in units of that of the subjects' embeddings.
        window: layers restored together, of MLPs and attention; a fifth of the depth by default (at least 1).
        seed: of the noise.
        progress: called with (prompts done, prompts).

    Raises:
        InputError: no prompt holds its subject, or noise hides no answer.
    """
    segments = Segments(loaded.model)
    width = window if window is not None else max(1, round(segments.spec.n_layers / 5))
    generator = torch.Generator().manual_seed(seed)
    found: list[_Traced] = []
    with torch.no_grad(), frozen(loaded.model):
        for number, request in enumerate(requests):
            tokens = subject_tokens(loaded.tokenizer, request)
            if tokens is not None:
                traced = _Fact(segments, _with_opening(loaded, *tokens), noise, generator).trace(width)
                if traced is not None:
                    found.append(traced)
            if progress is not None:
                progress(number + 1, len(requests))
    if not found:
        raise InputError(
            f"none of {len(requests)} prompts can be traced: their subjects do not stand in them, or the model does "
            "not know the facts; give prompts that name their subject and whose answer the model knows"
        )
    effects = {kind: _mean([item.effects[kind] for item in found]) for kind in KINDS}
    return Trace(
        effects,
        clean=float(np.mean([item.clean for item in found])),
        corrupted=float(np.mean([item.corrupted for item in found])),
        facts=len(found),
        window=width,
        layers=propose_layers(effects["mlp"][PLACES.index("last subject token")]),
    )


def propose_layers(effects: np.ndarray, count: int = 5) -> tuple[int, ...]:
    """Return ``count`` layers in a row with the largest summed effect; the last layer is never among them.

    Args:
        effects: indirect effect of the MLPs around each layer at the last subject token ``[n_layers]``.
        count: layers wanted.
    """
    usable = effects[:-1]
    size = min(count, len(usable))
    sums = np.convolve(usable, np.ones(size), mode="valid")
    start = int(sums.argmax())
    return tuple(range(start, start + size))


def _mean(effects: Sequence[np.ndarray]) -> np.ndarray:
    """Average over facts; a place that a fact lacks (a subject of one token has no first) does not count."""
    stacked = np.stack(effects)
    counts = (~np.isnan(stacked)).sum(0)
    total: np.ndarray = np.nansum(stacked, 0) / np.maximum(counts, 1)
    return total


def _with_opening(loaded: LoadedModel, ids: list[int], subject: list[int]) -> tuple[list[int], list[int]]:
    opening = opening_ids(loaded.tokenizer)
    return [*opening, *ids], [place + len(opening) for place in subject]


@dataclass(frozen=True, slots=True)
class _Traced:
    effects: dict[str, np.ndarray]
    clean: float
    corrupted: float


class _Fact:
    """One prompt, clean and with noise on its subject."""

    def __init__(
        self, segments: Segments, tokens: tuple[list[int], list[int]], noise: float, generator: torch.Generator
    ) -> None:
        self.segments, self.spec = segments, segments.spec
        ids, self.subject = tokens
        device = segments.model.device
        self.inputs = _inputs(torch.tensor([ids], device=device))
        clean = self._start = segments.hidden(self.inputs, last=-1)[0]
        drowned = clean.clone()
        part = clean[0, self.subject]
        drawn = torch.randn(part.shape, generator=generator).to(part)
        drowned[0, self.subject] = part + noise * part.float().std().to(part) * drawn
        self.clean, self.probabilities = self._run(clean)
        self.corrupted, below = self._run(drowned)
        self.drowned = drowned
        self.answer = int(self.probabilities.argmax())
        self.before, self.after = float(self.probabilities[self.answer]), float(below[self.answer])

    def _run(self, start: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return what each layer, MLP and attention puts out ``[t, d]``, and the next token's probabilities."""
        names = [name for layer in range(self.spec.n_layers) for name in self._names(layer).values()]
        with capture(self.segments.model, names, inputs=False) as seen:
            logits = self._logits(self.inputs, 0, start)
        return {name: values[0][0] for name, values in seen.outputs.items()}, logits[0].float().softmax(-1)

    def _names(self, layer: int) -> dict[str, str]:
        block = f"{self.spec.layers}.{layer}"
        down, out = self.spec.mlp_down, self.spec.attention_out
        names = {"state": block}
        if down is not None:
            names["mlp"] = f"{block}.{down.path}"
        if out is not None:
            names["attention"] = f"{block}.{out.path}"
        return names

    def _logits(self, inputs: Inputs, first: int, start: Tensor) -> Tensor:
        rows = torch.arange(len(start), device=start.device)
        last = torch.full_like(rows, start.shape[1] - 1)
        return self.segments.logits(inputs, (rows, last), first=first, start=start)

    def trace(self, window: int) -> _Traced | None:
        """Return the effects, None when the noise leaves the answer as likely as it was."""
        if self.after >= self.before:
            return None
        effects = {kind: np.full((len(PLACES), self.spec.n_layers), np.nan) for kind in KINDS}
        known = {i: tokens for i, tokens in enumerate(self._places()) if tokens}
        tokens = [token for group in known.values() for token in group]
        for layer in range(self.spec.n_layers):
            for kind in KINDS:
                returned = self._returned(kind, layer, tokens, window)
                at = 0
                for place, group in known.items():
                    effects[kind][place, layer] = float(np.mean(returned[at : at + len(group)]))
                    at += len(group)
        return _Traced(effects, self.before, self.after)

    def _places(self) -> list[list[int]]:
        subject, end = self.subject, self.inputs.ids.shape[1] - 1
        first = subject[:1] if len(subject) > 1 else []
        later = list(range(subject[-1] + 1, end))
        return [first, subject[1:-1], subject[-1:], later[:1], later[1:], [end] if end > subject[-1] else []]

    def _returned(self, kind: str, layer: int, tokens: list[int], window: int) -> np.ndarray:
        """Return how much probability comes back when ``kind`` is clean at each of ``tokens`` ``[len(tokens)]``."""
        count = len(tokens)
        inputs = _inputs(self.inputs.ids.expand(count, -1))
        positions = torch.tensor(tokens, device=inputs.ids.device)
        if kind == "state":
            if layer == self.spec.n_layers - 1:
                return np.zeros(count)
            name = self._names(layer)["state"]
            start = self.corrupted[name].expand(count, -1, -1).clone()
            start[torch.arange(count), positions] = self.clean[name][positions]
            return self._gain(self._logits(inputs, layer + 1, start))
        low = max(0, layer - window // 2)
        high = min(self.spec.n_layers, low + window)
        names = [self._names(i).get(kind) for i in range(low, high)]
        patches = {name: self.clean[name][positions] for name in names if name is not None}
        start = self.drowned[0] if low == 0 else self.corrupted[self._names(low - 1)["state"]]
        with outputs_patched(self.segments.model, patches, positions):
            return self._gain(self._logits(inputs, low, start.expand(count, -1, -1)))

    def _gain(self, logits: Tensor) -> np.ndarray:
        gained: np.ndarray = logits.float().softmax(-1)[:, self.answer].cpu().numpy() - self.after
        return gained


def _inputs(ids: Tensor) -> Inputs:
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return Inputs(ids, positions, torch.ones_like(ids))
