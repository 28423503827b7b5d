"""What the batches of the judge are drawn from."""

import random
from collections.abc import Sequence

from memedit.training.scope.inventory import Family, Relation
from memedit.training.scope.rows import RewordedRow

ASKED_ABROAD = 0.8
"""The share of queries in another language, of relations that have wordings in it."""
_PAIRS_ABROAD = 0.3
"""The share of made pairs of such relations."""
EDIT_KINDS = ("questions",) * 6 + ("cloze",) * 2 + ("statements",) * 2 + ("casual",)
"""The kinds of wording that an author stores, as often as they do."""


class Draws:
    """Families, rows and sentences, and a generator of random numbers that begins anew with each step.

    The same seed draws the same ones.

    Args:
        families: what is trained on; those with wordings in other languages are drawn apart from the rest.
        rows: reworded prompts of data files.
        noise: unrelated sentences.
        seed: of the draws.
    """

    def __init__(
        self, families: Sequence[Family], rows: Sequence[RewordedRow], noise: Sequence[str], seed: int
    ) -> None:
        self.families, self.noise = [one for one in families if not one.abroad], tuple(noise)
        self.abroad = [one for one in families if one.abroad]
        by_source: dict[str, list[RewordedRow]] = {}
        for row in rows:
            by_source.setdefault(row.source, []).append(row)
        self._sources = list(by_source.values())
        self._seed, self.rng = seed, random.Random(seed)
        self.names = [name for family in families for name in family.subjects]

    def begin(self, step: int) -> None:
        """Begin the draws of a step, which depend on seed and step alone."""
        self.rng = random.Random(f"{self._seed}/{step}")

    def rows(self, count: int) -> list[RewordedRow]:
        """Draw rows; a file of n rows counts like the square root of n."""
        if not self._sources:
            return []
        weights = [len(rows) ** 0.5 for rows in self._sources]
        return [self.rng.choice(rows) for rows in self.rng.choices(self._sources, weights, k=count)]

    def relation(self) -> tuple[Family, Relation]:
        """Draw a relation, and its family."""
        everywhere = not self.families or (bool(self.abroad) and self.rng.random() < _PAIRS_ABROAD)
        family = self.rng.choice(self.abroad if everywhere else self.families)
        return family, self.rng.choice(family.relations)

    def another_relation(self, family: Family, relation: Relation) -> Relation:
        """Draw another relation of a family, of which it is sure that it asks something else."""
        others = [other for other in family.relations if family.different(other.id, relation.id)]
        return self.rng.choice(others or [relation])

    def two_names(self, family: Family) -> tuple[str, str]:
        """Draw two subjects of a family, half of the time two that are easily confused."""
        rng = self.rng
        if family.near and rng.random() < 0.5:
            pair = rng.choice(family.near)
            return pair if rng.random() < 0.5 else (pair[1], pair[0])
        first, second = rng.sample(list(family.subjects), 2)
        return first, second


def worded_abroad(relation: Relation, rng: random.Random) -> tuple[str, str]:
    """Return a language other than English, and a relation's wording in it."""
    language = rng.choice(sorted(relation.abroad))
    return language, rng.choice(relation.abroad[language])
