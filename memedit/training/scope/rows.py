"""Reworded prompts from the training rows of data files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError
from memedit.evaluation.datasets.reading import read_records
from memedit.evaluation.datasets.splits import WHOLE_ROWS, is_training_row


@dataclass(frozen=True, slots=True)
class RewordedRow:
    """An edit's prompt with other wordings of it.

    ``others`` ask something else about the same subject; ``elsewhere`` ask about another subject. ``source`` is the
    name of the file.
    """

    prompt: str
    subject: str
    target: str
    rewordings: tuple[str, ...]
    others: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    source: str = ""


def read_rows(paths: Sequence[Path]) -> list[RewordedRow]:
    """Read the training rows of data files in their published fields.

    Raises:
        DatasetError: a file cannot be read, or holds no rows that are known; names it.
    """
    rows: list[RewordedRow] = []
    for path in paths:
        records = enumerate(read_records(path), 1)
        found = [row for number, record in records if (row := _row(record.values, number, path.stem)) is not None]
        if not found:
            raise DatasetError("holds no training row with a prompt, a rewording and a subject", path=str(path))
        rows += found
    return rows


def _row(line: Mapping[str, Any], number: int, source: str) -> RewordedRow | None:
    prompt = line.get("prompt") or line.get("src")
    target = line.get("target_new") or line.get("alt") or line.get("target") or ""
    wordings = (
        *_texts([line.get("rephrase_prompt") or line.get("rephrase")]),
        *_under(line, "portability", "Subject_Aliasing"),
    )
    others = _under(line, "locality", "Relation_Specificity")
    if not isinstance(prompt, str) or not (wordings or others) or not line.get("subject"):
        return None
    if not (number <= WHOLE_ROWS if "case_id" in line else is_training_row(prompt)):
        return None
    elsewhere = _texts([line.get("locality_prompt") or line.get("loc")])
    return RewordedRow(prompt, line["subject"], str(target), wordings or (prompt,), others, elsewhere, source)


def _under(line: Mapping[str, Any], part: str, name: str) -> tuple[str, ...]:
    found = line.get(part)
    return _texts([item.get("prompt") for item in found.get(name, ())]) if isinstance(found, Mapping) else ()


def _texts(found: Sequence[Any]) -> tuple[str, ...]:
    return tuple(text.removeprefix("nq question: ") for text in found if isinstance(text, str) and text.strip())
