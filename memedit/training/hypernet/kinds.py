"""Ways to train: edits one by one (MEND), by their text (KnowledgeEditor), or together (MALMEN, RLEdit)."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memedit.models.hypernet.config import HypernetConfig, edited_map
from memedit.models.hypernet.knowledge_editor import KnowledgeEditor, read_text
from memedit.models.hypernet.network import HyperNetwork, solved, within_rank
from memedit.models.segments import Segments
from memedit.training.hypernet.lessons import Lesson
from memedit.training.hypernet.settings import HypernetSettings
from memedit.training.hypernet.trainer import EditTrainer, Factors, StepLosses


def trainer_of(config: HypernetConfig) -> Any:
    """Return the trainer of networks of this shape."""
    if config.network == "text":
        return TextTrainer
    return SetTrainer if config.aggregate == "ridge" else HypernetTrainer


class HypernetTrainer(EditTrainer[HyperNetwork]):
    """Trains a network for single edits (MEND, arXiv 2110.11309)."""

    def factors(self, lessons: Sequence[Lesson]) -> Factors:
        """Return what the network makes of the edits' gradients."""
        down, up = self.network(*_joined(lessons))
        counts = [lesson.inputs.shape[1] for lesson in lessons]
        if self.network.config.inner == "text":  # whole texts have more tokens than ranks are kept
            parts = zip(torch.split(down, counts, 1), torch.split(up, counts, 1), strict=True)
            up = torch.cat([within_rank(*part, self.network.config.factors) for part in parts], 1)
        return Factors(down, up, torch.arange(len(lessons)).repeat_interleave(torch.tensor(counts)))


class TextTrainer(EditTrainer[KnowledgeEditor]):
    """Trains a network that reads the edit's text (KnowledgeEditor, arXiv 2104.08164)."""

    def factors(self, lessons: Sequence[Lesson]) -> Factors:
        """Return what the network makes of the edits' gradients."""
        made = [
            self.network(one.inputs, one.gradients, read_text(self.segments.model, one.prompt.query, one.prompt.answer))
            for one in lessons
        ]
        counts = torch.tensor([down.shape[1] for down, _ in made])
        down, up = (torch.cat(parts, 1) for parts in zip(*made, strict=True))
        return Factors(down, up, torch.arange(len(lessons)).repeat_interleave(counts))


class SetTrainer(EditTrainer[HyperNetwork]):
    """Trains a network for a solve: a set of edits is solved for at once, and some of them are asked.

    MALMEN (arXiv 2311.04661) and, with its trajectory made a set, RLEdit (arXiv 2502.05759): the loss goes back through
    the ridge to what the network asks for. Keys and gradients are those of the frozen base, as in a joint solve.
    """

    def __init__(
        self, network: HyperNetwork, segments: Segments, lessons: Sequence[Lesson], settings: HypernetSettings
    ) -> None:
        super().__init__(network, segments, lessons, settings)
        inputs, gradients = _joined(self.lessons)
        weights = zip(inputs, network.config.layers, strict=True)
        outputs = [(keys @ _weight(segments, layer).T).square().mean().sqrt() for keys, layer in weights]
        network.scale_by(torch.stack(outputs), settings.ridge * inputs.square().mean((1, 2)), inputs, gradients)

    def step(self, number: int) -> StepLosses:
        """Run step ``number`` (from 0); which data it sees depends on the number and the seed alone."""
        rng = random.Random(f"{self.settings.seed}:{number}")
        most = min(self.settings.batch, len(self.lessons))
        together = rng.sample(self.lessons, rng.randint(max(1, most // 3), most))
        some = together[: self.settings.asked]
        asked = [(0, text) for lesson in some for text in self.asks_of(rng, lesson)]
        return self.learned(self.factors(together), some, [0] * len(some), asked)

    def factors(self, lessons: Sequence[Lesson]) -> Factors:
        """Return the change of weights that a solve makes of what the network asks for, as factors of one owner."""
        inputs, gradients = _joined(lessons)
        up = solved(inputs, self.network.wanted(inputs, gradients), self.network.ridges)
        return Factors(inputs, up, torch.zeros(inputs.shape[1], dtype=torch.long))


def _joined(lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
    """Return inputs and gradients of lessons, one behind the other."""
    return torch.cat([one.inputs for one in lessons], 1), torch.cat([one.gradients for one in lessons], 1)


def _weight(segments: Segments, layer: int) -> Tensor:
    spec = segments.spec
    return edited_map(spec).weight(spec.layer(segments.model, layer)).detach().float()
