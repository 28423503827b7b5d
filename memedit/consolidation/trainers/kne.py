"""After KNE, the knowledge neuronal ensemble (arXiv 2412.20637): about one neuron in a hundred is fine-tuned.

The paper's abstract is followed, not its text, which could not be had: attribution by gradients for every parameter,
layer by layer; an ensemble of about 1%; only its parameters are trained, all layers together. What is ours: a neuron's
score is the sum of ``|theta * dL/dtheta|`` over its row of the maps that make it and its column of the map that reads
it (first-order Taylor of removing a parameter), each edit's scores in a layer adding up to 1, summed over edits.
Minimised is the mean negative log-likelihood of the targets plus ``kl`` times KL(base, edited) behind "SUBJECT is a".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings, EditRequest, digest
from memedit.consolidation.contexts import build_contexts, opening_ids
from memedit.consolidation.rows import edit_rows
from memedit.consolidation.trainers.ensemble import Ensemble, NeuronMaps
from memedit.errors import InputError, ModelError
from memedit.models import LoadedModel, ModelSpec, encode_as_data
from memedit.models.gradients import ScoredRows, capture_gradients
from memedit.models.segments import Inputs, Segments, frozen
from memedit.models.training import training_copy
from memedit.types import WeightDelta

_LOCATORS = ("gradient", "random")


@dataclass(frozen=True, slots=True)
class KneSettings:
    """How the ensemble is found and trained.

    Args:
        share: of a layer's neurons that are trained.
        locate: "gradient", or "random": as many drawn by the seed, to compare with.
        steps: of Adam, each on ``batch`` edits.
        learning_rate: of Adam.
        batch: edits in a step.
        stop_loss: an edit below it (nats a token) pulls no longer.
        kl: weight of KL(base, edited) behind "SUBJECT is a".
        l2: weight of the squared change.
        dtype: in which the model computes; the change itself is float32. "auto" is bfloat16 where the processor has it.
    """

    share: float = 0.01
    locate: str = "gradient"
    steps: int = 100
    learning_rate: float = 2e-3
    batch: int = 25
    stop_loss: float = 0.05
    kl: float = 0.1
    l2: float = 0.0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        fine = 0 < self.share <= 1 and self.locate in _LOCATORS and self.steps >= 1 and self.batch >= 1
        if not fine or self.learning_rate <= 0 or min(self.stop_loss, self.kl, self.l2) < 0:
            raise InputError(f"KNE settings are out of range: {self}")


@dataclass(frozen=True, slots=True)
class Kne:
    """The trainer: see :class:`~memedit.consolidation.trainers.registry.Trainer`."""

    settings: KneSettings = KneSettings()
    name: str = "kne"

    def __call__(
        self,
        loaded: LoadedModel,
        requests: Sequence[EditRequest],
        settings: ConsolidationSettings,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> WeightDelta:
        """Return the change of the ensemble's parameters that makes all requests hold.

        Raises:
            InputError: there are no requests.
            UnsupportedModelError: the model's layers have no single MLP down-projection.
            ModelError: the result is not finite.
        """
        if not requests:
            raise InputError("there are no edits to train on; without edits the weights are the base's own")
        ordered = sorted(requests, key=lambda request: request.id)
        work = _Work(loaded, ordered, settings, self.settings)
        ensemble = Ensemble(work.segments.spec, work.chosen())
        work.train(ensemble, progress)
        described = digest({**asdict(self.settings), "solver": settings.fingerprint})
        ids = tuple(request.id for request in ordered)
        delta = WeightDelta(loaded.fingerprint, self.name, described, ids, ensemble.terms())
        if not delta.finite:
            raise ModelError(f"{self.name} on {len(ids)} edits gave a result that is not finite; lower learning_rate")
        return delta


KNE = Kne()
KNE_RANDOM = Kne(KneSettings(locate="random"), "kne_random")


def kne_layers(spec: ModelSpec) -> tuple[int, ...]:
    """Propose layers: the second third of the depth, behind which enough is left to read what is written."""
    return tuple(range(spec.n_layers // 3, max(spec.n_layers // 3 + 1, (spec.n_layers * 5) // 6)))


class _Work:
    """The rows of all edits, with the hidden states in front of the lowest trained layer, and how they are trained."""

    def __init__(
        self, loaded: LoadedModel, requests: Sequence[EditRequest], shared: ConsolidationSettings, own: KneSettings
    ) -> None:
        self.segments = Segments(training_copy(loaded.model, own.dtype, own=True))
        self._own, self._seed = own, shared.seed
        self._layers = shared.layers or kne_layers(self.segments.spec)
        self._maps = NeuronMaps.of(self.segments.spec)
        contexts = build_contexts(loaded, shared)
        pairs: list[tuple[list[int], list[int]]] = []
        self._edits: list[list[int]] = []
        for request in requests:
            rows = edit_rows(loaded.tokenizer, request, contexts)
            self._edits.append(list(range(len(pairs), len(pairs) + len(rows))))
            for row in rows:
                whole = [*contexts[row.context].ids, *row.prefix, *row.tail, row.targets[-1]]
                pairs.append((whole[: -len(row.targets)], list(row.targets)))
        device = loaded.model.device
        self._pairs, self._device = pairs, device
        self._pad = loaded.tokenizer.pad_token_id or 0
        opening = opening_ids(loaded.tokenizer)
        texts = [f"{request.subject.strip()} is a" if request.subject else request.prompt for request in requests]
        self._kept = [[*opening, *encode_as_data(loaded.tokenizer, text)] for text in texts]

    def chosen(self) -> dict[int, Tensor]:
        """Return the ensemble: the neurons of each layer with the highest scores, ascending."""
        width = self._maps.out.in_features
        count = max(1, round(self._own.share * width))
        if self._own.locate == "random":
            generator = torch.Generator().manual_seed(self._seed)
            drawn = {layer: torch.randperm(width, generator=generator)[:count] for layer in self._layers}
            return {layer: neurons.sort().values.to(self._device) for layer, neurons in drawn.items()}
        scores = self._scores()
        return {layer: scores[layer].topk(count).indices.sort().values for layer in self._layers}

    def _scores(self) -> dict[int, Tensor]:
        """Return the summed scores of all neurons ``[d_in]`` by layer."""
        spec, model = self.segments.spec, self.segments.model
        weights = {layer: self._maps.weights(spec, model, layer) for layer in self._layers}
        total = {layer: torch.zeros(self._maps.out.in_features, device=self._device) for layer in self._layers}
        names = [name for own in weights.values() for name in own]
        first_rows = [own[0] for own in self._edits]  # the prompt on its own
        for part in _parts(first_rows, self._own.batch):
            batch = ScoredRows.of([self._pairs[row] for row in part], self._device, pad=self._pad)
            found = capture_gradients(self.segments, names, batch, reduction="sum")
            for number in range(len(part)):
                for layer, own in weights.items():
                    score = torch.zeros_like(total[layer])
                    for name, weight in own.items():
                        x, delta = found.modules[name].of_row(number)
                        taylor = (weight.float() * (delta.T @ x)).abs()
                        score += taylor.sum(0 if name.endswith(self._maps.out.path) else 1)
                    total[layer] += score / score.sum().clamp(min=1e-12)
        return total

    def train(self, ensemble: Ensemble, progress: Callable[[int, int], None] | None) -> None:
        """Descend; every step takes the next ``batch`` edits of an order that the seed gives."""
        descent = torch.optim.Adam(ensemble.leaves, self._own.learning_rate)
        with frozen(self.segments.model):
            for step, part in enumerate(self._drawn(self._own.steps)):
                loss, going = self._loss(ensemble, part)
                if going:
                    gradients = torch.autograd.grad(loss, ensemble.leaves)
                    for leaf, gradient in zip(ensemble.leaves, gradients, strict=True):
                        leaf.grad = gradient
                    descent.step()
                if progress is not None:
                    progress(step + 1, self._own.steps)

    def _drawn(self, steps: int) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self._seed)
        queue: list[int] = []
        for _ in range(steps):
            if len(queue) < min(self._own.batch, len(self._edits)):
                queue += torch.randperm(len(self._edits), generator=generator).tolist()
            yield queue[: self._own.batch]
            del queue[: self._own.batch]

    def _loss(self, ensemble: Ensemble, edits: Sequence[int]) -> tuple[Tensor, bool]:
        """Return the loss of a step, and whether any edit still pulls."""
        rows = [row for edit in edits for row in self._edits[edit]]
        batch = ScoredRows.of([self._pairs[row] for row in rows], self._device, pad=self._pad)
        logits = self._logits(ensemble, batch.inputs, (batch.rows, batch.positions))
        losses = torch.nn.functional.cross_entropy(logits, batch.wanted, reduction="none")
        mean = torch.zeros(len(rows), device=losses.device).index_add(0, batch.rows, losses)
        mean = mean / torch.bincount(batch.rows, minlength=len(rows))
        pulls = mean.detach() >= self._own.stop_loss
        loss = (mean * pulls).mean()
        if self._own.kl:
            loss = loss + self._own.kl * self._divergence(ensemble, edits)
        if self._own.l2:
            loss = loss + self._own.l2 * torch.stack([leaf.square().sum() for leaf in ensemble.leaves]).sum()
        return loss, bool(pulls.any())

    def _divergence(self, ensemble: Ensemble, edits: Sequence[int]) -> Tensor:
        """Return the mean KL(base, edited) at the last token of the edits' kept texts, in nats."""
        texts = [self._kept[edit] for edit in edits]
        inputs = Inputs.of(texts, self._device, pad=self._pad)
        places = (
            torch.arange(len(texts), device=self._device),
            torch.tensor([len(text) - 1 for text in texts], device=self._device),
        )
        with torch.no_grad():
            base = self._logits(None, inputs, places).log_softmax(-1)
        edited = self._logits(ensemble, inputs, places).log_softmax(-1)
        return (base.exp() * (base - edited)).sum(-1).mean()

    def _logits(self, ensemble: Ensemble | None, inputs: Inputs, places: tuple[Tensor, Tensor]) -> Tensor:
        first = self._layers[0]
        with torch.no_grad():
            start, _ = self.segments.hidden(inputs, last=first - 1)
        if ensemble is None:
            return self.segments.logits(inputs, places, first=first, start=start).float()
        with ensemble.applied(self.segments.model, len(inputs.ids)):
            return self.segments.logits(inputs, places, first=first, start=start).float()


def _parts(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(values), size):
        yield values[at : at + size]
