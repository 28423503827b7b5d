"""Batches for the judge: texts with the relation that each asks about, and pairs of a query and an edit's text."""

from collections.abc import Sequence

from memedit.training.scope.draws import Draws
from memedit.training.scope.inventory import Family
from memedit.training.scope.pairs import PairMaker
from memedit.training.scope.rows import RewordedRow
from memedit.training.scope.texts import TextMaker


class BatchMaker:
    """Makes batches: their ``texts`` and their ``pairs``. The same seed makes the same ones.

    Args:
        families: what is trained on; those with wordings in other languages are drawn apart from the rest.
        rows: reworded prompts of data files.
        noise: unrelated sentences.
        seed: of the draws.
    """

    def __init__(
        self, families: Sequence[Family], rows: Sequence[RewordedRow], noise: Sequence[str], seed: int
    ) -> None:
        self._draws = Draws(families, rows, noise, seed)
        self.texts, self.pairs = TextMaker(self._draws), PairMaker(self._draws)

    def at(self, step: int) -> "BatchMaker":
        """Begin the draws of a step, which depend on seed and step alone."""
        self._draws.begin(step)
        return self
