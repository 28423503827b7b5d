"""MEND's training (arXiv 2110.11309, section 3.3): the edit's effect on other wordings, and on unrelated text."""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from memedit.errors import InputError
from memedit.models.hypernet.knowledge_editor import KnowledgeEditor
from memedit.models.hypernet.network import HyperNetwork
from memedit.models.mixture_hooks import Mixture, Placement, mixture_rows
from memedit.models.segments import Inputs, Segments
from memedit.models.token_rows import IGNORE
from memedit.training.hypernet.lessons import Lesson, Text, padded
from memedit.training.hypernet.settings import HypernetSettings
from memedit.training.loop import Schedule

_SIZES = ("step_sizes", "ridges")


@dataclass(frozen=True, slots=True)
class StepLosses:
    """The parts of a step's loss (nats a token; locality NaN where none was scored), and the share of answers right.

    Right means each token of the answer is the likeliest behind those before it.
    """

    edit: float
    locality: float
    exact: float


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Factors of several edits, stacked: ``down [m, n, d_in]``, ``up [m, n, d_out]``; ``owner [n]`` names the edits."""

    down: Tensor
    up: Tensor
    owner: Tensor


N = TypeVar("N", HyperNetwork, KnowledgeEditor)


class EditTrainer(ABC, Generic[N]):
    """Runs training steps; the state lies in ``network`` and ``optimizer`` alone.

    Args:
        network: what is trained (float32).
        segments: the frozen model.
        lessons: what to learn from.
        settings: see :class:`~memedit.training.hypernet.settings.HypernetSettings`.

    Raises:
        InputError: there are no lessons, or none has a gradient.
    """

    def __init__(
        self,
        network: N,
        segments: Segments,
        lessons: Sequence[Lesson],
        settings: HypernetSettings,
    ) -> None:
        self.network: N = network
        self.segments, self.modules = segments, network.config.modules(segments.spec)
        self.lessons, self.settings = list(lessons), settings
        mean, deviation = moments(self.lessons)
        if not bool((deviation[network.d_in :] > 0).any()):
            raise InputError("no gradient reaches the edited maps; labels and tokens do not fit together")
        network.normalise_by(mean, deviation)
        self.parameters = dict(network.named_parameters())
        self.optimizer = torch.optim.Adam(
            [
                {"params": [p for n, p in self.parameters.items() if n not in _SIZES], "lr": settings.learning_rate},
                {"params": [p for n, p in self.parameters.items() if n in _SIZES], "lr": settings.step_rate},
            ]
        )

    @property
    def schedule(self) -> Schedule:
        """Warm-up, then a cosine."""
        return Schedule(self.settings.steps, warmup=self.settings.ramp)

    def step(self, number: int) -> StepLosses:
        """Run step ``number`` (from 0); which data it sees depends on the number and the seed alone."""
        rng = random.Random(f"{self.settings.seed}:{number}")
        chosen = rng.sample(self.lessons, min(self.settings.batch, len(self.lessons)))
        asked = [(number, text) for number, lesson in enumerate(chosen) for text in self.asks_of(rng, lesson)]
        owners = list(range(len(chosen)))
        return self.learned(self.factors(chosen), chosen, owners, asked)

    def learned(
        self, factors: Factors, lessons: Sequence[Lesson], owners: Sequence[int], asked: Sequence[tuple[int, Text]]
    ) -> StepLosses:
        """Take an optimizer step for factors: ``asked`` are questions under the factors of an owner.

        ``owners`` say under whose factors the questions off topic of the lessons are asked.
        """
        self.optimizer.zero_grad()
        edit, exact = self._edit_loss(factors, [text for _, text in asked], [number for number, _ in asked])
        loss, local = self.settings.edit_weight * edit, self._locality_loss(factors, lessons, owners)
        if local is not None:
            loss = loss + self.settings.locality_weight * local
        if self.settings.change_weight:
            loss = loss + self.settings.change_weight * squared_change(factors)
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        self.optimizer.step()
        return StepLosses(float(edit.detach()), math.nan if local is None else float(local.detach()), exact)

    @abstractmethod
    def factors(self, lessons: Sequence[Lesson]) -> Factors:
        """Return what the network makes of the edits' gradients."""

    def asks_of(self, rng: random.Random, lesson: Lesson) -> list[Text]:
        """Draw the questions of a lesson, no question twice while there are others."""
        drawn, others = list[Text](), list(lesson.asks)
        for _ in range(self.settings.asks):
            other = rng.random() < self.settings.paraphrased
            drawn.append(rng.choice(others) if other and others else lesson.prompt)
            others = [text for text in others if text is not drawn[-1]]
        return drawn

    def _edit_loss(self, factors: Factors, asked: Sequence[Text], owners: Sequence[int]) -> tuple[Tensor, float]:
        """Return the mean cross-entropy of the answers (each the mean of its tokens) and the share that is right."""
        labels = torch.tensor([label for text in asked for label in text.answer])
        rows = torch.tensor([row for row, text in enumerate(asked) for _ in text.answer])
        places = torch.tensor([len(t.query) - 1 + i for t in asked for i in range(len(t.answer))])
        logits = self.logits(asked, (rows, places), factors, owners)
        losses = functional.cross_entropy(logits, labels.to(logits.device), ignore_index=IGNORE, reduction="none")
        share = 1.0 / torch.bincount(rows).to(losses)[rows]
        wrong = set(rows[logits.argmax(-1).cpu() != labels].tolist())
        return (losses * share).sum() / len(asked), 1.0 - len(wrong) / len(asked)

    def _locality_loss(self, factors: Factors, lessons: Sequence[Lesson], under: Sequence[int]) -> Tensor | None:
        """Return the mean KL(base || edited) over the last tokens of the lessons' queries off topic.

        ``under`` says under whose factors each lesson's is asked.
        """
        wanted = math.ceil(self.settings.locality * len(lessons))
        pairs = [
            (i, lesson.off_topic) for i, lesson in zip(under, lessons, strict=True) if lesson.off_topic is not None
        ]
        owners, texts = [i for i, _ in pairs[:wanted]], [text for _, text in pairs[:wanted]]
        if not texts or self.settings.locality_weight == 0:
            return None
        spans = [range(max(0, len(t) - self.settings.locality_positions), len(t)) for t in texts]
        rows = torch.tensor([row for row, span in enumerate(spans) for _ in span])
        places = (rows, torch.tensor([place for span in spans for place in span]))
        with torch.no_grad():
            base = functional.log_softmax(self.logits(texts, places, None, owners), -1)
        edited = functional.log_softmax(self.logits(texts, places, factors, owners), -1)
        return functional.kl_div(edited, base, log_target=True, reduction="batchmean")

    def logits(
        self, texts: Sequence[Text], places: tuple[Tensor, Tensor], factors: Factors | None, owners: Sequence[int]
    ) -> Tensor:
        """Return logits ``[n, v]``, float32, at chosen places of texts, each under the factors of one edit.

        Args:
            texts: what is read.
            places: rows ``[n]`` and positions in the row ``[n]``.
            factors: of the edits; None is the bare model.
            owners: the edit that acts on each text, by its number among the factors.
        """
        device = self.segments.model.device
        inputs, start = Inputs.of([text.fed for text in texts], device), padded(texts)
        first = self.network.config.layers[0]
        where = (places[0].to(device), places[1].to(device))
        if factors is None:
            return self.segments.logits(inputs, where, first=first, start=start).float()
        terms = [
            Mixture(name, down.to(start.dtype), up.T.to(start.dtype))
            for name, down, up in zip(self.modules, factors.down, factors.up, strict=True)
        ]
        own = (factors.owner[None, :] == torch.tensor(list(owners))[:, None]).to(start)
        place = Placement(tuple(range(len(texts))), (0,) * len(texts), len(texts), start.shape[1])
        with mixture_rows(self.segments.model, terms, place, weights=(own,) * len(terms)):
            return self.segments.logits(inputs, where, first=first, start=start).float()


def squared_change(factors: Factors) -> Tensor:
    """Return ``sum_m |sum_t up_t down_t^T|^2`` of factors that have one owner, in the size of tokens, not of maps."""
    return ((factors.up @ factors.up.transpose(1, 2)) * (factors.down @ factors.down.transpose(1, 2))).sum()


def moments(lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation ``[d_in + d_out]`` of (input, output gradient) over all tokens and maps of lessons.

    Raises:
        InputError: there are fewer than two tokens.
    """
    pairs = [torch.cat([lesson.inputs, lesson.gradients], -1).flatten(0, 1) for lesson in lessons]
    count = sum(len(pair) for pair in pairs)
    if count < 2:
        raise InputError("there are no edits to train a hypernetwork on")
    mean = torch.stack([pair.sum(0, dtype=torch.float64) for pair in pairs]).sum(0) / count
    squares = torch.stack([(pair.double() - mean).square().sum(0) for pair in pairs]).sum(0)
    return mean.float(), (squares / (count - 1)).sqrt().float()
