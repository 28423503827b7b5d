"""The relation of an edit, found by how its prompt is worded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from memedit.types import EditDraft

OTHER = "(other)"
_FEWEST = 5
"""A wording that no relation is known for is a group of its own from so many edits on."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation: its name and other names, what its subject is, and its wordings with ``{}`` for the subject."""

    name: str
    also: tuple[str, ...]
    about: str
    wordings: tuple[str, ...]


@cache
def relations() -> tuple[Relation, ...]:
    """Return the relations of CounterFact, as ``relations.yaml`` has them."""
    text = resources.files(__package__).joinpath("relations.yaml").read_text(encoding="utf-8")
    return tuple(
        Relation(row["name"], tuple(row["also"]), row["about"], tuple(row["wordings"])) for row in yaml.safe_load(text)
    )


@cache
def _by_wording() -> Mapping[str, Relation]:
    return {wording: relation for relation in relations() for wording in relation.wordings}


def wording_of(edit: EditDraft) -> str | None:
    """Return the prompt with ``{}`` in its subject's place; None where it does not name its subject."""
    if not edit.subject or edit.subject not in edit.prompt:
        return None
    return edit.prompt.strip().replace(edit.subject, "{}", 1)


def relation_of(edit: EditDraft) -> Relation | None:
    """Return the relation whose wording the prompt is, None where none is known."""
    wording = wording_of(edit)
    return None if wording is None else _by_wording().get(wording)


def group_names(edits: Iterable[EditDraft]) -> list[str]:
    """Return the group of each edit: its relation, or else its wording where five edits share it, else ``(other)``."""
    listed = list(edits)
    wordings = [None if relation_of(edit) else wording_of(edit) for edit in listed]
    counts: dict[str, int] = {}
    for wording in wordings:
        if wording is not None:
            counts[wording] = counts.get(wording, 0) + 1
    names = []
    for edit, wording in zip(listed, wordings, strict=True):
        known = relation_of(edit)
        frequent = wording is not None and counts[wording] >= _FEWEST
        names.append(known.name if known else str(wording) if frequent else OTHER)
    return names
