"""The inventory of relations: kinds of subject (families), what people ask about them, and in which words.

A file holds one JSON object a line, one a family. Every two relations of a family are different questions about one
subject, but for the pairs under ``same``, which a fair reader could call one question. ``{s}`` stands for the subject
and ``{o}`` for the value.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError, unread

FOLDER = Path(__file__).parent / "families"
"""The files that ship with the package."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What is asked about a subject. Each field but ``id`` and ``objects`` lists wordings.

    ``off`` wordings look like the relation and ask something else; ``long`` ones are messages that hold the question;
    ``abroad`` are questions and casual forms in other languages than English, by language.
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
    abroad: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of subject. ``near`` are pairs of subjects that are easily confused, ``local`` names by language."""

    name: str
    subjects: tuple[str, ...]
    relations: tuple[Relation, ...]
    near: tuple[tuple[str, str], ...] = ()
    same: frozenset[frozenset[str]] = frozenset()
    local: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def abroad(self) -> bool:
        """Whether its relations have wordings in other languages than English."""
        return any(relation.abroad for relation in self.relations)

    def called(self, subject: str, language: str) -> str:
        """Return how a language names a subject."""
        names = self.local.get(language, ())
        return names[self.subjects.index(subject)] if subject in self.subjects and names else subject

    def without(self, languages: Collection[str]) -> "Family":
        """Return the family without its wordings in some languages."""
        kept = [replace(r, abroad={k: v for k, v in r.abroad.items() if k not in languages}) for r in self.relations]
        return replace(self, relations=tuple(kept))

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
            raise DatasetError(f"cannot be read: {error}", path=str(path)) from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    families.append(_family(json.loads(line)))
                except (KeyError, TypeError, ValueError) as error:
                    raise DatasetError(
                        f"is no family of relations: {unread(error)}", path=str(path), line=number
                    ) from error
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
        english = row["text"]["en"]
        others = {code: (*one["questions"], one["casual"]) for code, one in row["text"].items() if code != "en"}
        return Relation(
            id=row["id"],
            objects=tuple(row["objects"]),
            questions=tuple(english["questions"]),
            statements=(english["statement"],),
            casual=(english["casual"],),
            abroad=others,
        )
    kinds = ("questions", "statements", "cloze", "casual", "yesno", "off", "long")
    wordings: dict[str, Any] = {kind: tuple(row.get(kind, ())) for kind in kinds}
    return Relation(row["id"], tuple(row["objects"]), **wordings)
