"""Answers to questions that run through one to four facts, all facts in one memory, contradicting ones in order."""

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from memedit.bench.common import without_edits
from memedit.errors import DatasetError, InputError
from memedit.evaluation.datasets import guess_format, read_cases
from memedit.evaluation.metrics.statistics import rate
from memedit.runtime import Answer, EditableModel
from memedit.scope.text import folded_text
from memedit.training.scope.inventory import FOLDER, read_families
from memedit.types import ChainPolicy, EditDraft, EditState
from memedit.workflows.asking import as_prompt, room_for

_BATCH = 8
_LEAST_TOKENS = 24
_UNRELATED_TOKENS = 16
_SHORT_ALIAS = 3
"""Aliases of fewer characters ("us", "cz") are right only as the whole answer: they are words of any text."""

Progress = Callable[[int, int], None]


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
    """A question in one or more wordings, how many facts it runs through, its answer and other names of that."""

    hops: int
    questions: tuple[str, ...]
    answer: str
    aliases: tuple[str, ...]


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
    """Read JSONL rows of hops, questions and answer, and aliases where there are any.

    Raises:
        DatasetError: a row is not of this form.
    """
    found = []
    for row in _rows(path, ("hops", "questions", "answer")):
        names = [str(row["answer"]), *map(str, row.get("aliases", ()))]
        found.append(
            ChainQuestion(int(row["hops"]), tuple(map(str, row["questions"])), names[0], tuple(dict.fromkeys(names)))
        )
    return found


def run(
    model: EditableModel,
    facts: Sequence[Fact],
    questions: Sequence[ChainQuestion],
    *,
    fill: str | None = None,
    unrelated: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Import facts in serial order, the later superseding what it contradicts, and ask every question once.

    A question is asked in its first wording, as a chat where the model knows chats, and decoded greedily. An answer is
    right where the answer or another name of it stands in it as whole words.

    Args:
        model: on an empty memory.
        facts: in serial order.
        questions: what is asked.
        fill: ``FILE:N``: so many edits of a published data file are put into the memory first.
        unrelated: so many questions about other subjects, of the shipped inventory of relations, are answered by the
            bare model as well; the share of answers with the same tokens is reported.
        seed: chooses them.
        progress: called with (questions asked, questions).

    Raises:
        InputError: there are no facts or no questions.
    """
    if not facts or not questions:
        raise InputError(f"{len(facts)} facts and {len(questions)} questions: give at least one of each")
    memory = model.memory
    if fill is not None:
        memory.add_many(filler(fill), on_conflict="supersede")
    before = memory.count()
    drafts = [EditDraft(fact.prompt, fact.target, subject=fact.subject) for fact in facts]
    ids = memory.add_many(drafts, on_conflict="supersede").ids
    newest = {(fact.subject, fact.relation): edit_id for fact, edit_id in zip(facts, ids, strict=True)}
    states = {edit.id: edit.state for edit in memory.known(sorted(set(ids)))}
    total = len(questions) + unrelated
    rows = _asked(model, questions, lambda done: progress and progress(done, total))
    same = _unrelated(model, unrelated, seed, lambda done: progress and progress(len(questions) + done, total))
    cost = _cost(model, unrelated, seed)
    hops = sorted({row["hops"] for row in rows if row["hops"] > 1})
    return {
        "one_hop": _share([row["right"] for row in rows if row["hops"] == 1]),
        "several_hops": _share([row["right"] for row in rows if row["hops"] > 1]),
        "by_hops": {str(n): _share([row["right"] for row in rows if row["hops"] == n]) for n in hops},
        "unrelated_identical": _share(same),
        "lookup_ms": cost,
        "in_force": sum(state is not EditState.RETIRED for state in states.values()),
        "newest": len(newest),
        "wrongly_retired": sum(states.get(edit_id) is EditState.RETIRED for edit_id in newest.values()),
        "filled": before,
        "rows": rows,
    }


def filler(fill: str) -> list[EditDraft]:
    """Return the edits of ``FILE:N``, or of the whole file.

    Raises:
        DatasetError: the file is not there, or has no known form.
    """
    head, _, count = fill.rpartition(":")
    path, limit = (Path(head), int(count)) if head and count.isdigit() else (Path(fill), None)
    if not path.is_file():
        raise DatasetError("no such file; give FILE or FILE:N", path=str(path))
    return [edit for case in read_cases(path, guess_format(path), limit=limit) for edit in case.edits]


def says(answer: str, names: Sequence[str]) -> bool:
    """Say whether one of the names stands in an answer as whole words, whatever their case and accents."""
    said = folded_text(answer)
    return any(
        said == name or (len(name) >= _SHORT_ALIAS and f" {name} " in f" {said} ") for name in map(folded_text, names)
    )


def _asked(
    model: EditableModel, questions: Sequence[ChainQuestion], done: Callable[[int], Any]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for start in range(0, len(questions), _BATCH):
        part = questions[start : start + _BATCH]
        answers = _answers(model, [question.questions[0] for question in part])
        rows += [_row(question, answer) for question, answer in zip(part, answers, strict=True)]
        done(len(rows))
    return rows


def _answers(model: EditableModel, texts: Sequence[str]) -> list[Answer]:
    prompts = [as_prompt(model, text) for text in texts]
    plan = model.plan(prompts)
    length = max(room_for(model, route, least=_LEAST_TOKENS) for route in plan.routes)
    return model.answer(prompts, plan=plan, batch_size=_BATCH, max_new_tokens=length, do_sample=False)


def _row(question: ChainQuestion, answer: Answer) -> dict[str, Any]:
    return {
        "hops": question.hops,
        "question": question.questions[0],
        "expected": question.answer,
        "answer": answer.text.strip(),
        "right": says(answer.text, question.aliases),
        "chain": [hop._asdict() for hop in answer.chain],
        "fired": [hit.edit.target for hit in answer.edits],
    }


def _unrelated(model: EditableModel, count: int, seed: int, done: Callable[[int], Any]) -> list[bool]:
    """Say of questions about other subjects whether they are answered by the bare model's tokens."""
    same: list[bool] = []
    texts = _other_questions(count, seed)
    for start in range(0, len(texts), _BATCH):
        prompts = [as_prompt(model, text) for text in texts[start : start + _BATCH]]
        options: dict[str, Any] = {"max_new_tokens": _UNRELATED_TOKENS, "do_sample": False, "batch_size": _BATCH}
        plan = model.plan(prompts)
        answers = model.answer(prompts, plan=plan, **options)
        bare = model.answer(prompts, plan=without_edits(plan), **options)
        same += [one.token_ids == other.token_ids for one, other in zip(answers, bare, strict=True)]
        done(len(same))
    return same


def _cost(model: EditableModel, count: int, seed: int) -> dict[str, float]:
    """Return the median milliseconds of a look-up that fires nothing, without chains and with, turn about."""
    taken: dict[str, list[float]] = {"off": [], "chains": []}
    for text in _other_questions(count, seed):
        prompt = as_prompt(model, text)
        if model.explain(prompt).fired:
            continue
        for name, policy in (("off", "off"), ("chains", None)):
            began = time.perf_counter()
            model.explain(prompt, chains=cast(ChainPolicy | None, policy))
            taken[name].append(1000.0 * (time.perf_counter() - began))
    return {name: statistics.median(row) for name, row in taken.items() if row}


def _other_questions(count: int, seed: int) -> list[str]:
    families = read_families(sorted(FOLDER.glob("*.jsonl")))
    asked = [
        (question, family.subjects)
        for family in families
        for item in family.relations
        for question in item.questions[:1]
    ]
    generator = random.Random(seed)
    chosen = generator.sample(asked, min(count, len(asked)))
    return [question.replace("{s}", generator.choice(subjects)) for question, subjects in chosen]


def _share(right: Sequence[bool]) -> dict[str, Any]:
    """Return a share in percent with Wilson's interval; no value where nothing was asked."""
    if not right:
        return {"value": None, "n": 0}
    found = rate(right)
    return {"value": found.value, "n": found.n, "ci_low": found.ci_low, "ci_high": found.ci_high}


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
    lists = all(isinstance(row[name], list) for name in ("questions", "aliases") if name in row)
    return numbers and lists and row.get("questions") != []
