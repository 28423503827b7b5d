"""Answers of a model to a file of edits and asks: how often they say what they must, by kind, where the edit fired."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.errors import DatasetError
from memedit.evaluation.asks import Ask, AskedEdits, lacking, read_asks
from memedit.evaluation.metrics.statistics import rate
from memedit.evaluation.results import write_json
from memedit.types import BatchPlan, Route
from memedit.workflows.asking import as_prompt, sure_answer

if TYPE_CHECKING:
    from memedit.runtime import EditableModel

_BATCH = 8
_SPREAD = 64
"""So many questions are looked up before their answers are made, those of like length together."""


@dataclass(frozen=True, slots=True)
class AnsweredAsk:
    """An ask on which its edit fired: ``probability`` that its target was asked for, the answer, and what it lacks."""

    kind: str
    question: str
    fired: tuple[str, ...]
    probability: float
    answer: str
    lacks: str


@dataclass(frozen=True, slots=True)
class _Due:
    ask: Ask
    prompt: Any
    route: Route


def run_answers(
    model: "EditableModel",
    file: Path,
    out: Path,
    *,
    kinds: Sequence[str] = (),
    limit: int | None = None,
    max_new_tokens: int = 48,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Put a file's edits into the model's memory and ask, greedily, what is to fire them; write ``answers.json``.

    An answer that can be nothing but the target is not generated (:func:`~memedit.workflows.asking.sure_answer`).

    Args:
        model: on an empty memory.
        file: asks, as :func:`~memedit.evaluation.asks.read_asks` reads them.
        out: folder of the report; made when absent.
        kinds: ask only kinds that begin so; () asks all.
        limit: so many asks of each kind, the first of the file.
        max_new_tokens: length of each answer at most.
        progress: called with (asks done, asks in all).

    Returns:
        For each kind the share of asks on which the edit fired, and of these the share whose answer holds one of the
        alternatives of each of its ``must_contain``.

    Raises:
        DatasetError: the file is wrong, or asks nothing of these kinds.
    """
    asked = read_asks(file)
    chosen = _chosen(asked, kinds, limit)
    if not chosen:
        raise DatasetError(f"no ask of kind {', '.join(kinds) or 'any'} is to fire an edit", path=str(file))
    ids = model.memory.add_many(asked.edits, on_conflict="keep").ids
    fired: dict[str, list[bool]] = {ask.kind: [] for ask in chosen}
    answered: list[AnsweredAsk] = []
    for start in range(0, len(chosen), _SPREAD):
        part = _looked_up(model, chosen[start : start + _SPREAD])
        own = [{ids[number] for number in due.ask.wanted} & {hit.edit.id for hit in due.route.fired} for due in part]
        for due, found in zip(part, own, strict=True):
            fired[due.ask.kind].append(bool(found))
        firing = [due for due, found in zip(part, own, strict=True) if found]
        known = [(due, sure_answer(model, due.prompt, due.route)) for due in firing]
        answered += [_answered(due, text) for due, text in known if text is not None]
        open_ones = [due for due, text in known if text is None]
        answered += _answers(model, open_ones, max_new_tokens, lambda done: _tell(progress, done, len(chosen)), start)
    report = {
        "file": file.name,
        "adapter": model.adapter.name,
        "rows": _rows(fired, answered),
        "answers": [asdict(item) for item in answered],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "answers.json", report)
    return report


def _chosen(asked: AskedEdits, kinds: Sequence[str], limit: int | None) -> list[Ask]:
    seen: dict[str, int] = {}
    chosen = []
    for ask in asked.asks:
        if ask.wanted and (not kinds or ask.kind.startswith(tuple(kinds))):
            seen[ask.kind] = seen.get(ask.kind, 0) + 1
            if limit is None or seen[ask.kind] <= limit:
                chosen.append(ask)
    return chosen


def _looked_up(model: "EditableModel", asks: Sequence[Ask]) -> list[_Due]:
    prompts = [as_prompt(model, ask.query) if isinstance(ask.query, str) else ask.query for ask in asks]
    routes = model.plan(prompts).routes
    return [_Due(ask, prompt, route) for ask, prompt, route in zip(asks, prompts, routes, strict=True)]


def _answers(
    model: "EditableModel", asks: Sequence[_Due], room: int, tell: Callable[[int], None], before: int
) -> Iterator[AnsweredAsk]:
    """Yield the answers, questions of like length in one batch."""
    ordered = sorted(asks, key=lambda due: len(str(due.prompt)))
    for start in range(0, len(ordered), _BATCH):
        part = ordered[start : start + _BATCH]
        routes = tuple(Route(row, due.route.decision, due.route.adapter) for row, due in enumerate(part))
        said = model.answer(
            [due.prompt for due in part],
            plan=BatchPlan(routes),
            batch_size=_BATCH,
            max_new_tokens=room,
            do_sample=False,
        )
        yield from (_answered(due, answer.text) for due, answer in zip(part, said, strict=True))
        tell(before + start + len(part))


def _tell(progress: Callable[[int, int], None] | None, done: int, of: int) -> None:
    if progress is not None:
        progress(done, of)


def _answered(due: _Due, answer: str) -> AnsweredAsk:
    asked = due.ask.query
    return AnsweredAsk(
        kind=due.ask.kind,
        question=asked if isinstance(asked, str) else " || ".join(turn["content"] for turn in asked),
        fired=tuple(f"{hit.edit.prompt} = {hit.edit.target}" for hit in due.route.fired),
        probability=max(hit.target_probability for hit in due.route.fired),
        answer=answer,
        lacks=lacking(answer, due.ask.must_contain),
    )


def _rows(fired: dict[str, list[bool]], answered: Sequence[AnsweredAsk]) -> list[dict[str, Any]]:
    rows = []
    for kind, found in sorted(fired.items()):
        right = [not item.lacks for item in answered if item.kind == kind]
        rows.append({"kind": kind, "fired": rate(found).as_json(), "right": rate(right).as_json() if right else None})
    return rows
