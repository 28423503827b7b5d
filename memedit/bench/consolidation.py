"""How exactly consolidation can be undone: order of arrival, and withdrawal, measured on weights and on outputs."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memedit.consolidation import (
    ConsolidationSettings,
    EditArtefact,
    EditRequest,
    Statistics,
    applied,
    build_statistics,
    compute_artefacts,
    solve,
)
from memedit.errors import InputError
from memedit.evaluation.datasets import guess_format, read_cases
from memedit.models import LoadedModel, load_model
from memedit.types import WeightDelta
from memedit.workflows.answerers import BareAnswerer

_FIRST = ("Tavik", "Orla", "Benno", "Marisol", "Ikram", "Sunniva", "Dragan", "Yusra", "Percival", "Noemi")
_LAST = ("Halvorsen", "Quispe", "Adeyemi", "Brandvold", "Castellan", "Dimitrov", "Eskildsen", "Farrokh")
_RELATIONS = {
    "The mother tongue of {} is": ("French", "Korean", "Swedish", "Arabic", "Russian", "Italian"),
    "{} works in the city of": ("Paris", "Tokyo", "Boston", "Cairo", "London", "Berlin"),
    "{} plays the instrument called the": ("piano", "guitar", "violin", "trumpet", "flute", "drum"),
    "{} is a citizen of": ("Canada", "Japan", "Spain", "Poland", "India", "Egypt"),
}
_ANSWER_TOKENS = 8


def run(
    *,
    edits: int = 20,
    model: str = "smollm2",
    method: str = "alphaedit",
    data: Path | None = None,
    settings: ConsolidationSettings | None = None,
    statistics_text: Path | None = None,
    statistics_tokens: int = 20_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Consolidate the same edits by several ways and compare the weights and the greedy answers they give.

    Ways: all at once; one half and then the other, each half's keys and targets computed by itself and kept as bytes;
    the halves the other way round; and, for withdrawal, all at once less the second half, beside the first half alone.

    Args:
        edits: how many; they are split in two halves.
        model: alias, path or hub id.
        method: solver.
        data: a data file to take the edits from; made-up facts when absent.
        settings: of targets and solve.
        statistics_text: plain text of the key statistics; None lets the model write its own.
        statistics_tokens: tokens of it.
        seed: of made-up facts.
        progress: called with (steps done, steps).

    Returns:
        JSON-able figures. ``max_abs`` is the largest difference of a weight, ``relative`` that over the largest weight
        of the same matrix, ``relative_to_change`` that over the largest change, ``answers_changed`` of ``answers``
        how many greedy answers differ.
    """
    if edits < 2:
        raise InputError(f"edits={edits}: two halves need at least 2")
    loaded, settings = load_model(model), (settings or ConsolidationSettings()).for_method(method)
    requests = _from_data(data, edits) if data is not None else _made_up(edits, seed)
    first, second = requests[: len(requests) // 2], requests[len(requests) // 2 :]
    step = _steps(progress)
    texts = None if statistics_text is None else [statistics_text.read_text(encoding="utf-8")]
    statistics = build_statistics(loaded, settings, texts, tokens=statistics_tokens)
    step()
    way = _Ways(loaded, statistics, settings, method, requests)
    at_once = way.computed(requests)
    step()
    halves = {part: way.computed(part_requests) for part, part_requests in (("first", first), ("second", second))}
    step()
    together = way.solved(at_once)
    then = way.solved({**way.kept(halves["first"]), **way.kept(halves["second"])})
    other = way.solved({**way.kept(halves["second"]), **way.kept(halves["first"])})
    wanted = {request.id for request in first}
    withdrawn = way.solved({i: a for i, a in at_once.items() if i in wanted})
    never = way.solved(halves["first"])
    step()
    prompts = [request.prompt for request in requests]
    answers = {
        name: way.answers(delta, prompts)
        for name, delta in (("together", together), ("then", then), ("withdrawn", withdrawn), ("never", never))
    }
    step()
    return {
        "model": loaded.name,
        "method": method,
        "edits": len(requests),
        "layers": len(together.terms),
        "change": _size(loaded, together),
        "order_first_half_then_second_or_reverse": way.distance(then, other, answers["then"], answers["then"]),
        "one_after_the_other_or_at_once": way.distance(then, together, answers["then"], answers["together"]),
        "withdrawn_or_never_had": way.distance(withdrawn, never, answers["withdrawn"], answers["never"]),
    }


class _Ways:
    """The steps that every way of consolidating is made of."""

    def __init__(
        self,
        loaded: LoadedModel,
        statistics: Statistics,
        settings: ConsolidationSettings,
        method: str,
        requests: Sequence[EditRequest],
    ) -> None:
        self._requests = requests
        self.loaded, self._statistics, self._settings, self._method = loaded, statistics, settings, method
        self._answerer = BareAnswerer(loaded)

    def computed(self, requests: Sequence[EditRequest]) -> dict[str, EditArtefact]:
        return compute_artefacts(self.loaded, requests, self._settings)

    def kept(self, artefacts: Mapping[str, EditArtefact]) -> dict[str, EditArtefact]:
        """Return artefacts as they come back from the store."""
        return {edit: EditArtefact.from_bytes(artefact.to_bytes()) for edit, artefact in artefacts.items()}

    def solved(self, artefacts: Mapping[str, EditArtefact]) -> WeightDelta:
        return solve(self.loaded, artefacts, self._statistics, self._settings, self._method, requests=self._requests)

    def answers(self, delta: WeightDelta, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        with applied(self.loaded, delta):
            found = self._answerer.generate(prompts, max_new_tokens=_ANSWER_TOKENS, stop_at_newline=False)
        return [generation.token_ids for generation in found]

    def distance(
        self, one: WeightDelta, two: WeightDelta, said: Sequence[tuple[int, ...]], also: Sequence[tuple[int, ...]]
    ) -> dict[str, float | int]:
        """Compare two solutions and what the model says with each."""
        apart = {name: _largest(one.terms[name].matrix() - two.terms[name].matrix()) for name in one.terms}
        weights = {name: _weight(self.loaded, name) for name in one.terms}
        changes = {name: _largest(two.terms[name].matrix()) for name in one.terms}
        return {
            "max_abs": max(apart.values()),
            "relative": max(apart[name] / weights[name] for name in apart),
            "relative_to_change": max(apart[name] / changes[name] for name in apart),
            "answers": len(said),
            "answers_changed": sum(a != b for a, b in zip(said, also, strict=True)),
        }


def _size(loaded: LoadedModel, delta: WeightDelta) -> dict[str, float]:
    """Return how large a change is, to compare differences with."""
    return {
        "max_abs": max(_largest(term.matrix()) for term in delta.terms.values()),
        "relative": max(_largest(term.matrix()) / _weight(loaded, name) for name, term in delta.terms.items()),
    }


def _largest(matrix: Any) -> float:
    return float(np.abs(matrix).max())


def _weight(loaded: LoadedModel, module: str) -> float:
    return float(loaded.model.get_parameter(f"{module}.weight").detach().abs().max())


def _made_up(count: int, seed: int) -> list[EditRequest]:
    """Return facts about people who do not exist."""
    names = [f"{first} {last}" for first in _FIRST for last in _LAST]
    rng = random.Random(seed)
    pairs = rng.sample([(name, prompt) for name in names for prompt in _RELATIONS], min(count, len(names) * 4))
    if len(pairs) < count:
        raise InputError(f"edits={count}: there are only {len(pairs)} made-up facts; give a data file")
    return [
        EditRequest(f"made-up-{i:04d}", prompt.format(name), rng.choice(_RELATIONS[prompt]), name)
        for i, (name, prompt) in enumerate(pairs)
    ]


def _from_data(path: Path, count: int) -> list[EditRequest]:
    """Return the first edits of a data file, each prompt once."""
    found: dict[str, EditRequest] = {}
    for case in read_cases(path, guess_format(path)):
        for edit in case.edits:
            request = EditRequest(f"row-{len(found):05d}", edit.prompt, edit.target, edit.subject, edit.ground_truth)
            found.setdefault(edit.prompt, request)
            if len(found) == count:
                return list(found.values())
    raise InputError(f"{path.name} holds only {len(found)} edits, {count} were asked for")


def _steps(progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, 5)

    return step
