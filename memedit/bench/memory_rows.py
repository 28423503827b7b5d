"""Edits that fill a large memory, and what is asked of it: published rows first, then relations of the inventory.

The fill is the shipped inventory of relations (:mod:`memedit.training.scope.inventory`): every relation of a kind of
subject about every subject of that kind. When those are used up, subjects are made of the words of two subjects of the
kind ("Grandma Rose" and "Uncle Pete" give "Grandma Pete"), which also stand near the real ones. Values are drawn from
the relation's own. All of it depends on the seed alone, so a smaller memory is the beginning of a larger one.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memedit.errors import InputError
from memedit.evaluation.cases import Case, ProbeKind
from memedit.evaluation.datasets import DataFile, read_cases
from memedit.evaluation.datasets.splits import is_held_out_row
from memedit.evaluation.touching import TouchedPrompts
from memedit.training.scope.inventory import FOLDER, Family, read_families
from memedit.types import EditDraft

_TRIES = 200
"""Combinations of two subjects tried for a new one before a kind of subject counts as used up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query. ``own`` is the place of the edit that must fire, None where none may."""

    data: str
    text: str
    own: int | None


@dataclass(frozen=True, slots=True)
class Filling:
    """The edits in the order they are imported, and the queries, which hold for every beginning of them."""

    edits: tuple[EditDraft, ...]
    asked: tuple[Asked, ...]


def make_filling(files: Sequence[DataFile], count: int, *, queries: int, seed: int = 0) -> Filling:
    """Lay out ``count`` edits and the queries about them.

    The cases asked about come first: of each file ``queries`` rows that no shipped weights were trained on, drawn by
    ``seed``. The other rows of the files and the generated ones follow, shuffled. Paraphrases of the cases must fire
    their edit. Their locality prompts may fire none; those that name a subject of any of the edits are left out.

    Raises:
        InputError: fewer edits are wanted than are asked about, or a file has no held-out row.
        DatasetError: a file cannot be read.
    """
    asked: list[tuple[str, Case]] = []
    others: list[EditDraft] = []
    for file in files:
        cases = list(read_cases(file.path, file.format))
        chosen = set(_drawn(file, cases, queries, seed))
        asked += [(file.name, case) for i, case in enumerate(cases) if i in chosen]
        others += [edit for i, case in enumerate(cases) if i not in chosen for edit in case.edits]
    first = [edit for _, case in asked for edit in case.edits]
    if len(first) > count:
        raise InputError(f"{len(first)} edits are asked about, more than the {count} that are wanted; lower --queries")
    generated = inventory_edits(read_families(sorted(FOLDER.glob("*.jsonl"))), seed)
    # the mixture is the same for every count, so that a smaller memory is the beginning of a larger one
    rest = _mixed(others, generated, random.Random(seed))
    edits = (*first, *(edit for edit, _ in zip(rest, range(count - len(first)), strict=False)))
    return Filling(edits, tuple(_queries(asked, edits)))


def _drawn(file: DataFile, cases: Sequence[Case], queries: int, seed: int) -> list[int]:
    held_out = [
        i
        for i, case in enumerate(cases)
        if is_held_out_row(file.format, case.line, [edit.prompt for edit in case.edits])
    ]
    if not held_out:
        raise InputError(f"{file.path.name} has no row that no shipped weights were trained on")
    return random.Random(seed).sample(held_out, min(queries, len(held_out)))


def _mixed(rows: list[EditDraft], generated: Iterator[EditDraft], rng: random.Random) -> Iterator[EditDraft]:
    """Yield one published row for three generated ones, until there is no more."""
    rng.shuffle(rows)
    left = iter(rows)
    while True:
        part = [next(left, None), *(next(generated, None) for _ in range(3))]
        found = [edit for edit in part if edit is not None]
        if not found:
            return
        yield from found


def _queries(asked: Sequence[tuple[str, Case]], edits: Sequence[EditDraft]) -> Iterator[Asked]:
    touched = TouchedPrompts(dict(enumerate(edits)))
    place = 0
    for data, case in asked:
        for probe in case.probes:
            if probe.kind is ProbeKind.PARAPHRASE:
                yield Asked(data, probe.prompt, place + probe.edit)
            elif probe.kind is ProbeKind.LOCALITY and not touched.touching(probe.prompt):
                yield Asked(data, probe.prompt, None)
        place += len(case.edits)


def inventory_edits(families: Sequence[Family], seed: int = 0) -> Iterator[EditDraft]:
    """Yield an edit for every relation of every subject, the kinds of subject taking turns; then made-up subjects.

    Ends when no kind of subject gives a new one.
    """
    rng = random.Random(seed)
    sources = [_subjects(family, rng) for family in families]
    while sources:
        left = []
        for family, subjects in zip(families, sources, strict=True):
            subject = next(subjects, None)
            if subject is None:
                continue
            left.append((family, subjects))
            for relation in family.relations:
                wordings = relation.questions or relation.cloze
                prompt = rng.choice(wordings).replace("{s}", subject)
                yield EditDraft(prompt, rng.choice(relation.objects), subject=subject)
        families, sources = [family for family, _ in left], [subjects for _, subjects in left]


def _subjects(family: Family, rng: random.Random) -> Iterator[str]:
    """Yield a family's subjects, then new ones: the first words of one and the last words of another."""
    known = list(dict.fromkeys(family.subjects))
    yield from known
    seen = set(known)
    while True:
        for _ in range(_TRIES):
            first, second = rng.choice(known).split(), rng.choice(known).split()
            made = " ".join([*first[: (len(first) + 1) // 2], *second[len(second) // 2 :]])
            if made not in seen:
                break
        else:
            return
        seen.add(made)
        yield made
