"""General ability: multiple-choice questions, answered by the likeliest choice.

Prompts are zero-shot, in the wording of the language model evaluation harness. A choice's likelihood is the sum of its
tokens' log-probabilities behind the prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memedit.errors import DatasetError
from memedit.evaluation.answering import Scoring
from memedit.evaluation.datasets.reading import Record, read_records
from memedit.evaluation.metrics.statistics import Estimate, rate
from memedit.evaluation.requests import ScoreRequest

_LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, its choices (with their leading space) and the place of the right one."""

    prompt: str
    choices: tuple[str, ...]
    answer: int


def _label(record: Record, known: Sequence[str | int]) -> int:
    value = record.values.get("label")
    for i, label in enumerate(known):
        if not isinstance(value, bool) and value in (label, str(label)):
            return i
    raise record.error(f"expected one of {list(known)}, found {value!r}", "label")


def _mmlu(record: Record) -> Question:
    choices = record.values.get("choices")
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(_LETTERS) or not all(map(_is_text, choices)):
        raise record.error(f"expected 2 to {len(_LETTERS)} texts, found {choices!r:.80}", "choices")
    answer = record.values.get("answer")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise record.error(f"expected the place of a choice, 0 to {len(choices) - 1}, found {answer!r}", "answer")
    lines = [f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=False)]
    prompt = "\n".join([record.text("question").strip(), *lines, "Answer:"])
    return Question(prompt, tuple(f" {letter}" for letter in _LETTERS[: len(choices)]), answer)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _sentiment(record: Record) -> Question:
    prompt = f"{record.text('sentence').strip()}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return Question(prompt, (" negative", " positive"), _label(record, (0, 1)))


def _entailment(record: Record) -> Question:
    first, second = record.text("sentence1").strip(), record.text("sentence2").strip()
    named = ("entailment", "not_entailment")
    labels = named if record.values.get("label") in named else (0, 1)
    return Question(f"{first}\nQuestion: {second} True or False?\nAnswer:", (" True", " False"), _label(record, labels))


def _same_meaning(record: Record) -> Question:
    first, second = record.text("sentence1").strip(), record.text("sentence2").strip()
    prompt = f"Sentence 1: {first}\nSentence 2: {second}\nQuestion: Do both sentences mean the same thing?\nAnswer:"
    return Question(prompt, (" no", " yes"), _label(record, (0, 1)))


def _acceptable(record: Record) -> Question:
    prompt = f"{record.text('sentence').strip()}\nQuestion: Does this sentence make sense?\nAnswer:"
    return Question(prompt, (" no", " yes"), _label(record, (0, 1)))


TASKS: dict[str, Callable[[Record], Question]] = {
    "mmlu": _mmlu,
    "sst2": _sentiment,
    "sentiment_analysis": _sentiment,
    "rte": _entailment,
    "nli": _entailment,
    "mrpc": _same_meaning,
    "cola": _acceptable,
}
"""Task by the name of its file."""


def read_tasks(path: Path, *, limit: int) -> dict[str, list[Question]]:
    """Read the first ``limit`` questions of a task's file, or of every known task in a folder.

    Raises:
        DatasetError: nothing is there, a file's name is no known task, or a row is wrong.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise DatasetError("no .jsonl files in this folder", path=path.name)
    tasks = {}
    for file in files:
        if file.stem not in TASKS:
            known = ", ".join(f"{name}.jsonl" for name in sorted(TASKS))
            raise DatasetError(f"not a known capability task; known files: {known}", path=file.name)
        questions = []
        for record in read_records(file):
            questions.append(TASKS[file.stem](record))
            if len(questions) == limit:
                break
        tasks[file.stem] = questions
    return tasks


def capability_requests(questions: Sequence[Question]) -> list[ScoreRequest]:
    """Return one score request for each choice of each question, in order."""
    return [ScoreRequest(question.prompt, choice) for question in questions for choice in question.choices]


def accuracy(questions: Sequence[Question], scorings: Sequence[Scoring]) -> tuple[Estimate, list[bool]]:
    """Return the share of questions whose likeliest choice is right, and which were; the first of equals counts."""
    right, start = [], 0
    for question in questions:
        rows = scorings[start : start + len(question.choices)]
        start += len(question.choices)
        totals = [sum(row.logprobs) for row in rows]
        right.append(totals.index(max(totals)) == question.answer)
    return rate(right), right
