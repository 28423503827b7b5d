"""Representation shattering (arXiv 2410.17194): how far a change of the weights bends what no edit is about.

``D`` are the Euclidean distances between the hidden states of entities at the last token of a fixed prompt; ``R`` is
``|D* - D0|_F / |D0|_F``. A random change of the same size in every matrix shows what R comes of size alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memedit.evaluation.metrics.statistics import Estimate
from memedit.evaluation.rows.base import Asking, Finding, RowData, States, Table
from memedit.types import WeightDelta, WeightTerm

PROMPT = "Let us talk about {}"
RANDOM = 3
"""Random changes that R is compared with."""
WARNS_AT = 3.0
"""Times the R of a random change of the same size."""
_RESAMPLES = 500
ORDERED = (
    "January February March April May June July August September October November December",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "zero one two three four five six seven eight nine",
    "red orange yellow green blue indigo violet",
)
NAMED = (
    "France", "Japan", "Brazil", "Egypt", "Canada", "India", "Norway", "Kenya", "Peru", "Vietnam", "Paris", "Tokyo",
    "Cairo", "Boston", "Madrid", "Lagos", "Sydney", "Berlin", "Mumbai", "Lima", "Albert Einstein", "Marie Curie",
    "William Shakespeare", "Mozart", "Cleopatra", "Isaac Newton", "Napoleon", "Frida Kahlo", "Aristotle",
    "Charles Darwin", "the Nile", "the Amazon", "Mount Everest", "the Sahara", "the Atlantic", "gold", "iron",
    "oxygen", "water", "salt", "a horse", "an eagle", "a whale", "a rose", "an oak", "a violin", "a piano",
    "a hammer", "a bicycle", "an airplane", "football", "chess", "bread", "coffee", "the Moon", "Mars", "Latin",
    "Chinese", "democracy", "the Renaissance",
)  # fmt: skip


def entities(edited: Sequence[str] = ()) -> list[str]:
    """Return months, weekdays, digits, colours and sixty names, without those that an edit is about."""
    taken = {name.casefold() for name in edited}
    return [name for name in (*" ".join(ORDERED).split(), *NAMED) if name.casefold() not in taken]


def distances(states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean distances ``[n, n]`` between states ``[n, d]``."""
    x = states.astype(np.float64)
    squares = (x * x).sum(1)
    between = squares[:, None] + squares[None] - 2 * x @ x.T
    np.fill_diagonal(between, 0.0)
    return np.asarray(np.sqrt(np.maximum(between, 0.0)))


def shattering(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Return R of two matrices of distances ``[n, n]``."""
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


def estimate(before: NDArray[np.float32], after: NDArray[np.float32], *, seed: int = 0) -> Estimate:
    """Return R of states ``[n, d]`` with a percentile bootstrap over the entities; n counts them."""
    d0, d1 = distances(before), distances(after)
    value = shattering(d0, d1)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(d0), size=len(d0)) for _ in range(_RESAMPLES))
    found = [shattering(d0[np.ix_(i, i)], d1[np.ix_(i, i)]) for i in draws]
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(value, len(d0), float(low), float(high))


def random_like(delta: WeightDelta, seed: int) -> WeightDelta:
    """Return a change with the same Frobenius norm in every matrix, its entries independent and normal."""
    rng = np.random.default_rng(seed)

    def drawn(term: WeightTerm) -> WeightTerm:
        noise = rng.standard_normal(term.shape)
        size = float(np.linalg.norm(term.matrix()))
        return WeightTerm(dense=np.asarray(noise * (size / np.linalg.norm(noise)), dtype=np.float32))

    return replace(delta, method="random", terms={name: drawn(term) for name, term in delta.terms.items()})


@dataclass(frozen=True, slots=True)
class Shattered:
    """R by layer of a change, and the mean R of random changes of its size (0 where nothing changes)."""

    layers: tuple[int, ...]
    own: tuple[Estimate, ...]
    random: tuple[float, ...]

    @property
    def worst(self) -> int:
        """The place of the layer with the largest R."""
        return max(range(len(self.own)), key=lambda i: self.own[i].value)

    @property
    def warns(self) -> bool:
        """Whether some layer is bent more than three times as far as by a random change of the same size."""
        return any(own.value > WARNS_AT * other for own, other in zip(self.own, self.random, strict=True))


def measure(
    states: Callable[[Sequence[str], WeightDelta | None], States],
    before: States,
    after: States,
    layers: Sequence[int],
    *,
    delta: WeightDelta | None,
    texts: Sequence[str],
    seed: int = 0,
) -> Shattered:
    """Return R of ``after`` against ``before``, and of random changes of ``delta``'s size.

    Args:
        states: returns the base's states of texts under a change.
        before: states of the base, ``[texts, layers, d]``.
        after: of the candidate.
        layers: numbers of the layers.
        delta: what the candidate changes in the weights; None where nothing.
        texts: the prompts.
        seed: of the random changes and the bootstrap.
    """
    own = tuple(estimate(before[:, i], after[:, i], seed=seed) for i in range(len(layers)))
    found = np.zeros(len(layers))
    for number in range(RANDOM if delta is not None else 0):
        moved = states(texts, random_like(delta, seed + number) if delta is not None else None)
        found += [shattering(distances(before[:, i]), distances(moved[:, i])) for i in range(len(layers))]
    return Shattered(tuple(layers), own, tuple(float(value) / RANDOM for value in found))


class Shattering:
    """R at three layers, beside random changes of the same size; exactly 0 for methods that leave the weights alone."""

    name = "shattering"
    needs = ()

    def measure(self, method: Asking, others: Mapping[str, Asking], data: RowData) -> Finding:
        """See :class:`~memedit.evaluation.rows.base.Row`."""
        base = others["base"]
        subjects = [edit.subject for case in data.cases for edit in case.edits if edit.subject]
        texts = [PROMPT.format(name) for name in entities(subjects)]
        before, after = base.states(texts), method.states(texts)
        found = measure(
            lambda prompts, delta: base.states(prompts, delta=delta), before, after, method.layers,
            delta=method.delta, texts=texts, seed=data.seed,
        )  # fmt: skip
        lines = tuple(
            (f"layer {layer}", own, other)
            for layer, own, other in zip(found.layers, found.own, found.random, strict=True)
        )
        table = Table("by layer", ("behind", "R", "R of a random change of this size"), lines)
        facts = {"warns": found.warns, "random": list(found.random)}
        return Finding(self.name, method.name, {f"{self.name}.r": found.own[found.worst]}, (table,), facts=facts)
