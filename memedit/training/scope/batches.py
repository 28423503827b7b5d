"""Batches for the judge: texts with the relation that each asks about, and pairs of a query and an edit's text."""

from memedit.training.scope.draws import Draws
from memedit.training.scope.pairs import PairMaker
from memedit.training.scope.texts import TextMaker


class BatchMaker:
    """Makes batches: their ``texts`` and their ``pairs``, out of what ``draws`` draws."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self.texts, self.pairs = TextMaker(draws), PairMaker(draws)

    def at(self, step: int) -> "BatchMaker":
        """Begin the draws of a step, which depend on seed and step alone."""
        self._draws.begin(step)
        return self
