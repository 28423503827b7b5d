"""How often an answer that is asked for with a JSON schema holds the edit's value where it belongs."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.evaluation.datasets.reading import read_as
from memedit.evaluation.metrics.statistics import Estimate, rate
from memedit.runtime import EditableModel
from memedit.workflows.asking import as_prompt


@dataclass(frozen=True, slots=True)
class StructuredAsk:
    """An edit, a question for it with a schema, and the ``value`` that is right ``at`` a path of the answer."""

    kind: str
    prompt: str
    target: str
    ask: str
    schema: Any
    at: list[str | int]
    value: Any


@dataclass(frozen=True, slots=True)
class Structured:
    """Shares in percent with Wilson's interval: answers that are JSON, and answers with the right value in its place.

    ``by_kind`` holds (right, n); ``seconds`` are those of an answer, with its look-up; ``wrong`` are questions with
    their values and answers.
    """

    valid: Estimate
    right: Estimate
    fired: int
    by_kind: dict[str, tuple[int, int]]
    seconds: float
    wrong: tuple[tuple[str, Any, str], ...]


def read_asks(path: Path) -> list[StructuredAsk]:
    """Read JSONL rows of ``kind``, ``prompt``, ``target``, ``ask``, ``schema``, ``at`` and ``value``.

    Raises:
        DatasetError: a row is not of this form.
    """
    return read_as(StructuredAsk, path)


def run(
    model: EditableModel,
    rows: Sequence[StructuredAsk],
    *,
    max_new_tokens: int = 120,
    progress: Callable[[int, int], None] | None = None,
) -> Structured:
    """Put all edits into the model's memory and ask each question with its schema, greedily.

    Args:
        model: on an empty memory.
        rows: what is asked.
        max_new_tokens: length of an answer; one that does not end within it is no JSON.
        progress: called with (questions asked, questions).
    """
    model.memory.add_many([{"prompt": row.prompt, "target": row.target} for row in rows], on_conflict="keep")
    texts: list[str] = []
    fired, started = 0, time.perf_counter()
    for number, row in enumerate(rows, start=1):
        prompt = as_prompt(model, row.ask, raw=False)
        (answer,) = model.answer([prompt], structured=row.schema, max_new_tokens=max_new_tokens, do_sample=False)
        texts.append(answer.text)
        fired += [hit.edit.prompt for hit in answer.edits] == [row.prompt]
        if progress is not None:
            progress(number, len(rows))
    seconds = (time.perf_counter() - started) / len(rows)
    valid, right = zip(*(_judged(text, row) for text, row in zip(texts, rows, strict=True)), strict=True)
    kinds: dict[str, list[bool]] = defaultdict(list)
    for row, good in zip(rows, right, strict=True):
        kinds[row.kind].append(good)
    wrong = [(row.ask, row.value, text) for row, text, good in zip(rows, texts, right, strict=True) if not good]
    by_kind = {kind: (sum(found), len(found)) for kind, found in kinds.items()}
    return Structured(rate(valid), rate(right), fired, by_kind, seconds, tuple(wrong))


def _judged(text: str, row: StructuredAsk) -> tuple[bool, bool]:
    """Say whether a text is JSON, and whether it has the right value."""
    try:
        found = json.loads(text)
    except ValueError:
        return False, False
    for step in row.at:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return True, False
    return True, type(found) is type(row.value) and found == row.value
