"""The inventory of relations: kinds of subject (families), what people ask about them, and in which words.

A file holds one JSON object a line, one a family. Every two relations of a family are different questions about one
subject, but for the pairs under ``same``, which a fair reader could call one question. ``{s}`` stands for the subject
and ``{o}`` for the value.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError

FOLDER = Path(__file__).parent / "families"
"""The files that ship with the package."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What is asked about a subject. Each field but ``id`` and ``objects`` lists wordings.

    ``off`` wordings look like the relation and ask something else; ``long`` ones are messages with the question in them.
    """

    id: str
    objects: tuple[str, ...]
    questions: tuple[str, ...]
    statements: tuple[str, ...] = ()
    cloze: tuple[str, ...] = ()
    casual: tuple[str, ...] = ()
    yesno: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    long: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of subject. ``near`` are pairs of subjects that are easily confused, ``local`` names by language."""

    name: str
    subjects: tuple[str, ...]
    relations: tuple[Relation, ...]
    near: tuple[tuple[str, str], ...] = ()
    same: frozenset[frozenset[str]] = frozenset()
    local: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def different(self, first: str, second: str) -> bool:
        """Say whether two relations are surely different questions."""
        return first != second and frozenset((first, second)) not in self.same


def read_families(paths: Sequence[Path]) -> list[Family]:
    """Read the families of inventory files, in order.

    Raises:
        DatasetError: a file cannot be read, or a line is no family; names file and line.
    """
    families = []
    for path in paths:
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"inventory file cannot be read: {error}", path=str(path)) from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    families.append(_family(json.loads(line)))
                except (KeyError, TypeError, ValueError) as error:
                    raise DatasetError(f"no family of relations: {error!r}", path=str(path), line=number) from error
    return families


def _family(row: Mapping[str, Any]) -> Family:
    return Family(
        name=row["family"],
        subjects=tuple(row["subjects"]),
        relations=tuple(_relation(item) for item in row["relations"]),
        near=tuple((str(first), str(second)) for first, second in row.get("near_subjects", ())),
        same=frozenset(frozenset(pair) for pair in row.get("same", ())),
        local=row.get("local", {}),
    )


def _relation(row: Mapping[str, Any]) -> Relation:
    if "text" in row:
        texts = row["text"].values()
        return Relation(
            id=row["id"],
            objects=tuple(row["objects"]),
            questions=tuple(text for one in texts for text in one["questions"]),
            statements=tuple(one["statement"] for one in texts),
            casual=tuple(one["casual"] for one in texts),
        )
    kinds = ("questions", "statements", "cloze", "casual", "yesno", "off", "long")
    return Relation(row["id"], tuple(row["objects"]), **{kind: tuple(row.get(kind, ())) for kind in kinds})
