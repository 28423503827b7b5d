"""Files of facts in order and of questions that run through them, and what counts as a right answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError
from memedit.scope.text import folded_text

_SHORT_ALIAS = 3
"""Aliases of fewer characters ("us", "cz") are right only as the whole answer: they are words of any text."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of a stream: of those with the same subject and relation the one with the highest serial is in force."""

    serial: int
    prompt: str
    subject: str
    target: str
    relation: str


@dataclass(frozen=True, slots=True)
class ChainQuestion:
    """A question in one or more wordings, how many facts it runs through, its answer and other names of that.

    ``chain`` are the serials of these facts, empty where the file does not say.
    """

    hops: int
    questions: tuple[str, ...]
    answer: str
    aliases: tuple[str, ...]
    chain: tuple[int, ...] = ()


def read_facts(path: Path) -> list[Fact]:
    """Read JSONL rows of serial, prompt, subject, target and relation, and sort them by serial.

    Raises:
        DatasetError: a row is not of this form.
    """
    facts = [
        Fact(int(row["serial"]), *(str(row[name]) for name in ("prompt", "subject", "target", "relation")))
        for row in _rows(path, ("serial", "prompt", "subject", "target", "relation"))
    ]
    return sorted(facts, key=lambda fact: fact.serial)


def read_questions(path: Path) -> list[ChainQuestion]:
    """Read JSONL rows of hops, questions and answer, and aliases and chain (serials of facts) where there are any.

    Raises:
        DatasetError: a row is not of this form.
    """
    found = []
    for row in _rows(path, ("hops", "questions", "answer")):
        names = [str(row["answer"]), *map(str, row.get("aliases", ()))]
        asked, serials = tuple(map(str, row["questions"])), tuple(row.get("chain") or ())
        found.append(ChainQuestion(int(row["hops"]), asked, names[0], tuple(dict.fromkeys(names)), serials))
    return found


def says(answer: str, names: Sequence[str]) -> bool:
    """Say whether one of the names stands in an answer as whole words, whatever their case and accents."""
    said = folded_text(answer)
    return any(
        said == name or (len(name) >= _SHORT_ALIAS and f" {name} " in f" {said} ") for name in map(folded_text, names)
    )


def _rows(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            missing = [name for name in fields if name not in row]
        except (ValueError, TypeError) as error:
            raise DatasetError(f"is no JSON object: {error}", path=str(path), line=number) from error
        if not isinstance(row, dict) or missing or not _whole(row):
            raise DatasetError(f"expected an object with {', '.join(fields)}", path=str(path), line=number)
        rows.append(row)
    return rows


def _whole(row: dict[str, Any]) -> bool:
    """Say whether the fields that are numbers and lists are of their kind."""
    numbers = all(isinstance(row[name], int) for name in ("serial", "hops") if name in row)
    lists = all(isinstance(row[name], list) for name in ("questions", "aliases", "chain") if name in row)
    return numbers and lists and row.get("questions") != []
