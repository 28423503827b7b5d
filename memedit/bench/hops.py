"""MQuAKE-CF (arXiv 2305.14795) from one shared memory: by case and hop by hop, beside what the base could do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.bench.chain_files import says
from memedit.bench.chain_rows import share
from memedit.bench.chains import filler
from memedit.bench.common import without_edits
from memedit.errors import InputError
from memedit.evaluation.datasets.reading import Record, read_records
from memedit.runtime import Answer, EditableModel
from memedit.types import EditDraft
from memedit.workflows.asking import as_prompt, room_for

_BATCH = 8
_LEAST_TOKENS = 24

Progress = Callable[[int, int], None]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Hop:
    """One fact of a case as it is after the edits: its question, names of its answer, and its edit.

    ``edited`` is whether it is one of the case's edits; ``key`` are subject and relation.
    """

    question: str
    names: tuple[str, ...]
    draft: EditDraft
    key: Key
    edited: bool


@dataclass(frozen=True, slots=True)
class HopCase:
    """A case: its questions, which run through all hops, names of their answer, and the hops."""

    questions: tuple[str, ...]
    names: tuple[str, ...]
    hops: tuple[Hop, ...]


def read_cases(path: Path) -> list[HopCase]:
    """Read MQuAKE's rows.

    Raises:
        DatasetError: a row is not of this form.
    """
    return [_case(record) for record in read_records(path)]


def run(
    model: EditableModel,
    cases: Sequence[HopCase],
    *,
    edits_only: bool = False,
    fill: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Store all cases' facts in one memory and ask every case, and every hop by itself, greedily.

    A case is right where one of its wordings is answered, as MQuAKE counts; hop-wise where all its hops' own questions
    are as well. Of cases that contradict one another the later holds: the earlier are counted and left out.

    Args:
        model: on an empty memory.
        cases: with what is asked.
        edits_only: store the cases' edits and leave the other hops to the model; the ceiling is then the share of
            cases all of whose other hops the bare model answers, asked one by one with the right value given.
        fill: ``FILE:N``: so many edits of a published data file are put into the memory first.
        progress: called with (questions asked, questions).

    Raises:
        InputError: there are no cases.
    """
    if not cases:
        raise InputError("there are no cases; give at least one")
    if fill is not None:
        model.memory.add_many(filler(fill), on_conflict="supersede")
    stored = [hop for case in cases for hop in case.hops if hop.edited or not edits_only]
    last = {hop.key: hop.draft.target for hop in stored}
    model.memory.add_many([hop.draft for hop in stored], on_conflict="supersede")
    kept = [case for case in cases if all(last.get(hop.key, hop.draft.target) == hop.draft.target for hop in case.hops)]
    asked = [question for case in kept for question in case.questions]
    singles = {hop.question: hop for case in kept for hop in case.hops}
    total = len(asked) + len(singles)
    answers = _asked(model, asked, progress, 0, total)
    hops = _asked(model, list(singles), progress, len(asked), total, bare=edits_only)
    right = {question: says(hops[question].text, hop.names) for question, hop in singles.items()}
    rows = [_row(case, answers, right, edits_only) for case in kept]
    found: dict[str, Any] = {
        "by_case": share([row["right"] for row in rows]),
        "by_question": share([one for row in rows for one in row["rights"]]),
        "by_hops": {
            str(n): share([row["right"] for row in rows if row["hops"] == n])
            for n in sorted({row["hops"] for row in rows})
        },
        "contradicted": len(cases) - len(kept),
        "stored": model.memory.count(),
        "rows": rows,
    }
    return {**found, ("ceiling" if edits_only else "hop_wise"): share([row["hops_right"] for row in rows])}


def _asked(
    model: EditableModel,
    questions: Sequence[str],
    progress: Progress | None,
    before: int,
    total: int,
    *,
    bare: bool = False,
) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for start in range(0, len(questions), _BATCH):
        part = questions[start : start + _BATCH]
        prompts = [as_prompt(model, question) for question in part]
        plan = model.plan(prompts)
        plan = without_edits(plan) if bare else plan
        length = max(room_for(model, route, least=_LEAST_TOKENS) for route in plan.routes)
        answers = model.answer(prompts, plan=plan, batch_size=_BATCH, max_new_tokens=length, do_sample=False)
        found.update(zip(part, answers, strict=True))
        if progress is not None:
            progress(before + len(found), total)
    return found


def _row(case: HopCase, answers: dict[str, Answer], right: dict[str, bool], edits_only: bool) -> dict[str, Any]:
    rights = [says(answers[question].text, case.names) for question in case.questions]
    of_hops = [right[hop.question] for hop in case.hops if not (edits_only and hop.edited)]
    return {
        "hops": len(case.hops),
        "questions": list(case.questions),
        "expected": case.names[0],
        "answers": [answers[question].text.strip() for question in case.questions],
        "chains": [[hop._asdict() for hop in answers[question].chain] for question in case.questions],
        "rights": rights,
        "right": any(rights),
        "hops_right": all(of_hops) and (edits_only or any(rights)),
    }


def _case(record: Record) -> HopCase:
    triples = record.record("orig").values.get("new_triples_labeled")
    hops = record.records("new_single_hops", some=True)
    edited = {
        (rewrite.text("subject"), rewrite.record("target_new").text("str"))
        for rewrite in record.records("requested_rewrite", some=True)
    }
    if not isinstance(triples, list) or len(triples) != len(hops):
        raise record.error("expected a triple for every hop", "orig")
    found = []
    for (subject, relation, target), hop in zip(triples, hops, strict=True):
        names = (hop.text("answer"), *(hop.texts("answer_alias") if hop.has("answer_alias") else ()))
        draft = EditDraft(hop.text("cloze"), hop.text("answer"), subject=subject)
        found.append(Hop(hop.text("question"), names, draft, (subject, relation), (subject, target) in edited))
    aliases = record.texts("new_answer_alias") if record.has("new_answer_alias") else ()
    questions = tuple(question.strip() for question in record.texts("questions"))
    return HopCase(questions, (record.text("new_answer"), *aliases), tuple(found))
