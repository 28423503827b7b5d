"""How often answers are their edit's target to the letter, line breaks and blanks included."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memedit.evaluation.datasets.reading import read_as
from memedit.evaluation.metrics.statistics import Estimate, rate
from memedit.runtime import EditableModel
from memedit.runtime.passes import Base, EditedRows
from memedit.runtime.rows import prompt_row
from memedit.runtime.scoring import score_rows
from memedit.types import BatchPlan, Route
from memedit.workflows.asking import as_prompt, sure_answer

_BATCH = 8
_ROOM = 16
"""Tokens that an answer may have over its target's."""

_Said = tuple[str, list[str]]
"""An answer, and the prompts of the edits that fired."""

_FORMS = {"prompt": "the edit's own question", "other": "in other words"}


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A target with a layout, of a ``kind``, the question it answers, and that question in ``other`` words."""

    kind: str
    prompt: str
    other: str
    target: str


@dataclass(frozen=True, slots=True)
class Exactness:
    """The share of answers that were the target to the letter, in percent with Wilson's interval.

    ``fired`` counts the questions on which the edit fired, and no other. ``by_kind`` holds (exact, n). ``wrong`` are
    questions with their targets and answers.
    """

    form: str
    exact: Estimate
    fired: int
    by_kind: dict[str, tuple[int, int]]
    wrong: tuple[tuple[str, str, str], ...]


def read_targets(path: Path) -> list[LaidOut]:
    """Read JSONL rows of ``kind``, ``prompt``, ``other`` and ``target``.

    Raises:
        DatasetError: a row is not of this form.
    """
    return read_as(LaidOut, path)


def run(
    model: EditableModel,
    rows: Sequence[LaidOut],
    *,
    raw: bool = False,
    forced: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Exactness]:
    """Put all rows into the model's memory and ask each question, greedily, as a chat where the model knows chats.

    Args:
        model: on an empty memory.
        rows: what is asked.
        raw: ask in plain text. An answer then begins with the blank that parts it from its question.
        forced: read each target behind its question, in one pass, instead of generating the answer: the greedy answer
            is the target where each of its tokens, the end's too, is the likeliest at its place. A target whose weight
            in decoding is over a half need not even be read: nothing can be likelier. Much quicker.
        progress: called with (questions asked, questions).
    """
    model.memory.add_many([{"prompt": row.prompt, "target": row.target} for row in rows], on_conflict="keep")
    results, done = [], 0
    for form, shown in _FORMS.items():
        answers: dict[int, tuple[str, bool]] = {}
        for numbers, length in _batches(model, rows):
            prompts = [as_prompt(model, getattr(rows[number], form), raw=raw) for number in numbers]
            said = _forced(model, prompts) if forced else _generated(model, prompts, length + _ROOM)
            for number, (text, fired) in zip(numbers, said, strict=True):
                blank = " " if isinstance(prompts[0], str) else ""
                answers[number] = (text.removeprefix(blank), fired == [rows[number].prompt])
            done += len(numbers)
            if progress is not None:
                progress(done, len(_FORMS) * len(rows))
        results.append(_exactness(shown, rows, answers))
    return results


def _generated(model: EditableModel, prompts: Sequence[Any], length: int) -> list[_Said]:
    found = model.answer(prompts, batch_size=_BATCH, max_new_tokens=length, do_sample=False)
    return [(answer.text, [hit.edit.prompt for hit in answer.edits]) for answer in found]


def _forced(model: EditableModel, prompts: Sequence[Any]) -> list[_Said]:
    return [
        _forced_one(model, prompt, route) for prompt, route in zip(prompts, model.plan(prompts).routes, strict=True)
    ]


def _forced_one(model: EditableModel, prompt: Any, route: Route) -> _Said:
    """Return the fired target where it is what would be said, else a note of where the answer would leave it."""
    row, fired = prompt_row(model.tokenizer, prompt), [hit.edit.prompt for hit in route.fired]
    sure, own = sure_answer(model, prompt, route), model.generator.target_prior(row, route.fired)
    if own is None or sure is not None:
        return sure or "", fired
    edits = tuple(hit.edit for hit in route.fired)
    edited = EditedRows((0,), (row,), (edits,), {}, (own,))
    base = Base(model.base, model.pad_token_id, model.context_length)
    (score,) = score_rows(base, [row], [own.ids], BatchPlan((route,)), edited=edited, adapter=model.adapter)
    kept = own.ids if all(score.argmax) else own.ids[: score.argmax.index(False)]
    text = str(model.tokenizer.decode(list(kept), skip_special_tokens=True))
    return (text if kept == own.ids else f"{text}…"), fired


def _batches(model: EditableModel, rows: Sequence[LaidOut]) -> Iterator[tuple[list[int], int]]:
    """Yield the numbers of rows with targets of like length, and the tokens of the longest."""
    lengths = [len(model.tokenizer(row.target)["input_ids"]) for row in rows]
    order = sorted(range(len(rows)), key=lambda number: lengths[number])
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        yield part, lengths[part[-1]]


def _exactness(form: str, rows: Sequence[LaidOut], answers: dict[int, tuple[str, bool]]) -> Exactness:
    said = [answers[number] for number in range(len(rows))]
    right = [text == row.target for row, (text, _) in zip(rows, said, strict=True)]
    kinds: dict[str, list[bool]] = defaultdict(list)
    for row, exact in zip(rows, right, strict=True):
        kinds[row.kind].append(exact)
    wrong = [(row.prompt, row.target, text) for row, (text, _) in zip(rows, said, strict=True) if text != row.target]
    return Exactness(
        form,
        rate(right),
        sum(fired for _, fired in said),
        {kind: (sum(found), len(found)) for kind, found in kinds.items()},
        tuple(wrong),
    )
