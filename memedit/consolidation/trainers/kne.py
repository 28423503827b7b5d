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
        steps: most steps of Adam, each on ``batch`` edits.
        learning_rate: of Adam.
        batch: edits in a step.
        stop_loss: an edit below it (nats a token) pulls no longer.
        kl: weight of KL(base, edited) behind "SUBJECT is a".
        l2: weight of the squared change.
        dtype: in which the model computes; the change itself is float32. "auto" is bfloat16 where the processor has it.
    """

    share: float = 0.01
    locate: str = "gradient"
    steps: int = 60
    learning_rate: float = 5e-3
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
    """The rows of all edits and what they start from, and how the ensemble is found and trained.

    Behind the edits' rows come their kept texts, one an edit. What the layers below the lowest trained one make of the
    rows is computed once, and so is what the base predicts behind the kept texts.
    """

    def __init__(
        self, loaded: LoadedModel, requests: Sequence[EditRequest], shared: ConsolidationSettings, own: KneSettings
    ) -> None:
        self.segments = Segments(training_copy(loaded.model, own.dtype, own=True))
        self._own, self._seed = own, shared.seed
        self._layers = shared.layers or kne_layers(self.segments.spec)
        self._maps = NeuronMaps.of(self.segments.spec)
        self._device, self._pad = loaded.model.device, loaded.tokenizer.pad_token_id or 0
        contexts = build_contexts(loaded, shared)
        self._pairs: list[tuple[list[int], list[int]]] = []
        self._edits: list[list[int]] = []
        for request in requests:
            rows = edit_rows(loaded.tokenizer, request, contexts)
            self._edits.append(list(range(len(self._pairs), len(self._pairs) + len(rows))))
            for row in rows:
                whole = [*contexts[row.context].ids, *row.prefix, *row.tail, row.targets[-1]]
                self._pairs.append((whole[: -len(row.targets)], list(row.targets)))
        opening = opening_ids(loaded.tokenizer)
        texts = [f"{request.subject.strip()} is a" if request.subject else request.prompt for request in requests]
        kept = [[*opening, *encode_as_data(loaded.tokenizer, text)] for text in texts]
        fed = [[*prompt, *target[:-1]] for prompt, target in self._pairs] + kept
        self._lengths = torch.tensor([len(ids) for ids in fed], device=self._device)
        self._inputs = Inputs.of(fed, self._device, pad=self._pad)
        self._base, self._start = self._prepared()

    @torch.no_grad()
    def _prepared(self) -> tuple[Tensor, Tensor]:
        """Return log-probabilities behind the kept texts ``[E, V]``, and the hidden states all rows start from."""
        starts, base = [], []
        for part in _parts(range(len(self._lengths)), 2 * self._own.batch):
            rows = torch.tensor(list(part), device=self._device)
            start, _ = self.segments.hidden(self._inputs.rows(rows), last=self._layers[0] - 1)
            starts.append(start)
            kept = (rows >= len(self._pairs)).nonzero()[:, 0]
            if len(kept):
                places = (torch.arange(len(kept), device=self._device), self._lengths[rows[kept]] - 1)
                base.append(self._logits(rows[kept], start[kept], places).log_softmax(-1))
        return torch.cat(base), torch.cat(starts)

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
        """Descend until no edit pulls; every step takes the next ``batch`` edits of an order that the seed gives."""
        descent = torch.optim.Adam(ensemble.leaves, self._own.learning_rate)
        enough = -(-len(self._edits) // self._own.batch)  # steps in which every edit has its turn
        still = 0
        with frozen(self.segments.model):
            for step, part in enumerate(self._drawn(self._own.steps)):
                loss, going = self._loss(ensemble, part)
                still = 0 if going else still + 1
                if still == enough:
                    break
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
        asked = [row for edit in edits for row in self._edits[edit]]
        rows = torch.tensor([*asked, *(len(self._pairs) + edit for edit in edits)], device=self._device)
        owner = [place for place, row in enumerate(asked) for _ in self._pairs[row][1]]
        at = [len(self._pairs[row][0]) - 1 + i for row in asked for i in range(len(self._pairs[row][1]))]
        wanted = torch.tensor([token for row in asked for token in self._pairs[row][1]], device=self._device)
        behind = [*range(len(asked), len(rows))]
        last = (self._lengths[rows[len(asked) :]] - 1).tolist()
        places = tuple(torch.tensor(values, device=self._device) for values in (owner + behind, at + last))
        with ensemble.applied(self.segments.model, len(rows)):
            logits = self._logits(rows, self._start[rows], (places[0], places[1]))
        losses = torch.nn.functional.cross_entropy(logits[: len(wanted)], wanted, reduction="none")
        groups = places[0][: len(wanted)]
        mean = torch.zeros(len(asked), device=losses.device).index_add(0, groups, losses)
        mean = mean / torch.bincount(groups, minlength=len(asked))
        pulls = mean.detach() >= self._own.stop_loss
        base = self._base[list(edits)]
        divergence = (base.exp() * (base - logits[len(wanted) :].log_softmax(-1))).sum(-1).mean()
        loss = (mean * pulls).mean() + self._own.kl * divergence
        if self._own.l2:
            loss = loss + self._own.l2 * torch.stack([leaf.square().sum() for leaf in ensemble.leaves]).sum()
        return loss, bool(pulls.any())

    def _logits(self, rows: Tensor, start: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
        """Run the layers from the lowest trained one on; rows are fed as wide as the longest of them."""
        width = int(self._lengths[rows].max())
        chosen = self._inputs.rows(rows)
        inputs = Inputs(chosen.ids[:, :width], chosen.positions[:, :width], chosen.mask[:, :width])
        return self.segments.logits(inputs, places, first=self._layers[0], start=start[:, :width]).float()


def _parts(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(values), size):
        yield values[at : at + size]
