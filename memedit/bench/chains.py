"""Answers to questions that run through one to four facts, all facts in one memory, contradicting ones in order."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from memedit.bench.chain_files import ChainQuestion, Fact, says
from memedit.bench.chain_rows import BATCH, Asking, compared, share, shares, with_memory
from memedit.bench.common import without_edits
from memedit.errors import DatasetError, InputError
from memedit.evaluation.datasets import guess_format, read_cases
from memedit.runtime import Answer, EditableModel
from memedit.training.scope.inventory import FOLDER, read_families
from memedit.types import ChainPolicy, EditDraft, EditState
from memedit.workflows.asking import as_prompt

_UNRELATED_TOKENS = 16

Progress = Callable[[int, int], None]


def run(
    model: EditableModel,
    facts: Sequence[Fact],
    questions: Sequence[ChainQuestion],
    *,
    fill: str | None = None,
    unrelated: int = 200,
    compare: Sequence[str] = (),
    compared_questions: int | None = None,
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
        compare: further rows (:data:`~memedit.bench.chain_rows.ROWS`), each asked the same questions.
        compared_questions: of the questions these are asked the first so many, drawn; None for all.
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
    drawn = _drawn(questions, compared_questions, seed)
    done = _Done(progress, len(questions) + unrelated + len(drawn) * len(compare))
    asked = [question.questions[0] for question in questions]
    rows = [_row(*pair) for pair in zip(questions, with_memory(model, asked, done), strict=True)]
    same = _unrelated(model, unrelated, seed, done.behind(len(questions)))
    found = {
        **shares([(row["hops"], row["right"]) for row in rows]),
        "unrelated_identical": share(same),
        "lookup_ms": _cost(model, unrelated, seed),
        "in_force": sum(state is not EditState.RETIRED for state in states.values()),
        "newest": len(newest),
        "wrongly_retired": sum(states.get(edit_id) is EditState.RETIRED for edit_id in newest.values()),
        "filled": before,
        "stored": memory.count(),
        "rows": rows,
    }
    if compare:
        behind = done.behind(len(questions) + unrelated)
        found["compared"] = compared(Asking(model, facts, drawn), compare, behind)
    return found


def run_sizes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the last of several runs, with the shares of each under ``by_size`` where there are several."""
    found = dict(runs[-1])
    if len(runs) > 1:
        names = ("stored", "one_hop", "several_hops", "by_hops", "unrelated_identical", "lookup_ms", "wrongly_retired")
        found["by_size"] = [{name: run[name] for name in names} for run in runs]
    return found


def _drawn(questions: Sequence[ChainQuestion], count: int | None, seed: int) -> list[ChainQuestion]:
    """Return so many questions, drawn; all where no number is given."""
    if count is None or count >= len(questions):
        return list(questions)
    return random.Random(seed).sample(list(questions), count)


class _Done:
    """Tells what is done of all that is asked; ``behind`` tells of a later part of it."""

    def __init__(self, progress: Progress | None, total: int, before: int = 0) -> None:
        self._progress, self._total, self._before = progress, total, before

    def __call__(self, count: int) -> None:
        if self._progress is not None:
            self._progress(self._before + count, self._total)

    def behind(self, before: int) -> "_Done":
        return _Done(self._progress, self._total, before)


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
    for start in range(0, len(texts), BATCH):
        prompts = [as_prompt(model, text) for text in texts[start : start + BATCH]]
        options: dict[str, Any] = {"max_new_tokens": _UNRELATED_TOKENS, "do_sample": False, "batch_size": BATCH}
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
