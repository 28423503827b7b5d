"""What the gates ask: prompts no edit is about, a text, questions, and the user's canaries."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from memedit.errors import DatasetError
from memedit.evaluation.cases import ProbeKind
from memedit.evaluation.datasets import guess_format, read_cases
from memedit.evaluation.datasets.reading import Record, read_records
from memedit.evaluation.metrics.capability import Question, read_tasks
from memedit.evaluation.metrics.perplexity import read_text
from memedit.index import SubjectIndex
from memedit.types import Edit
from memedit.workflows.consolidate.settings import JobSettings

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Canary:
    """A prompt whose answer is watched: it must hold ``contains``, must not hold ``absent``, or must stay as it was."""

    prompt: str
    contains: str | None = None
    absent: str | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the base's own answer is wanted."""
        return self.contains is None and self.absent is None


@dataclass(frozen=True, slots=True)
class Probes:
    """Everything the gates ask besides the edits; ``text`` None stands for the base's own samples."""

    prompts: tuple[str, ...]
    questions: tuple[Question, ...]
    text: str | None
    canaries: tuple[Canary, ...]


def read_probes(settings: JobSettings, edits: Sequence[Edit]) -> Probes:
    """Read what the settings name, and take memedit's own where they name nothing.

    Prompts that name the subject of one of the ``edits`` are left out: what they should get is not for a gate to say.

    Raises:
        DatasetError: a file cannot be read or one of its rows is wrong.
    """
    files = settings.probes
    shipped = _shipped()
    prompts = _filled_prompts(shipped) if files.specificity is None else _prompts(files.specificity)
    subjects = SubjectIndex()
    subjects.add_many((i, edit.subject) for i, edit in enumerate(edits) if edit.subject and edit.subject.strip())
    apart = [prompt for prompt in dict.fromkeys(prompts) if not subjects.find(prompt)]
    if files.capability is None:
        questions = _spread(_filled_questions(shipped), settings.capability_questions)
    else:
        tasks = read_tasks(files.capability, limit=settings.capability_questions)
        questions = [question for task in tasks.values() for question in task]
    return Probes(
        prompts=tuple(_spread(apart, settings.specificity_probes)),
        questions=tuple(questions),
        text=None if files.perplexity is None else read_text(files.perplexity),
        canaries=() if files.canaries is None else tuple(map(_canary, read_records(files.canaries))),
    )


def _shipped() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("probes.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _filled_prompts(shipped: dict[str, Any]) -> list[str]:
    return [group["text"].replace("{}", item) for group in shipped["prompts"] for item in group["items"]]


def _filled_questions(shipped: dict[str, Any]) -> list[Question]:
    return [
        Question(group["text"].replace("{}", item), tuple(f" {choice}" for choice in group["choices"]), answer)
        for group in shipped["questions"]
        for item, answer in group["items"].items()
    ]


def _prompts(path: Path) -> list[str]:
    """Return the locality prompts of a data file of a known form, or the prompts of plain rows."""
    first = next(iter(read_records(path)), None)
    if first is None:
        raise DatasetError("holds no rows", path=path.name)
    try:
        form = guess_format(path)
    except DatasetError:
        return [record.text("prompt") for record in read_records(path)]
    kinds = (ProbeKind.LOCALITY, ProbeKind.SPECIFICITY)
    return [probe.prompt for case in read_cases(path, form) for probe in case.probes if probe.kind in kinds]


def _canary(record: Record) -> Canary:
    values = record.values
    given = [name for name in ("contains", "absent", "unchanged") if values.get(name) not in (None, False)]
    if len(given) != 1:
        raise record.error("a canary has just one of contains, absent, unchanged", "contains")
    prompt = record.text("prompt")
    if given[0] == "unchanged":
        return Canary(prompt)
    text = record.text(given[0])
    return Canary(prompt, contains=text) if given[0] == "contains" else Canary(prompt, absent=text)


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Take ``count`` items, evenly over the whole, so that every kind of prompt is among them."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
