"""What every trainer offers, and the trainers by name."""

from collections.abc import Callable, Sequence
from typing import Protocol

from memedit.consolidation.base import ConsolidationSettings, EditRequest
from memedit.models import LoadedModel
from memedit.registry import Registry
from memedit.types import WeightDelta


class Trainer(Protocol):
    """Learns a change of the frozen base's weights for a set of edits; a function of the set, settings and base.

    Withdrawing an edit is training without it.
    """

    def __call__(
        self,
        loaded: LoadedModel,
        requests: Sequence[EditRequest],
        settings: ConsolidationSettings,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> WeightDelta:
        """Return the change; ``settings`` gives layers, contexts and the seed."""


TRAINERS: Registry[Trainer] = Registry("weight trainer")
TRAINERS.register("kne", "memedit.consolidation.trainers.kne:KNE")
TRAINERS.register("kne_random", "memedit.consolidation.trainers.kne:KNE_RANDOM")


def is_trainer(method: str) -> bool:
    """Say whether a consolidation method is a trainer, which needs no keys, targets or statistics."""
    return method in TRAINERS
