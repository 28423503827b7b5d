"""Hard edits: whose subject is one word at the very beginning. Does writing one of them break the model?

After HardEdit (arXiv 2402.09656) and the cause that was found for it (arXiv 2406.11263): a key at the first token is
unlike all others, and where keys are taken behind passing text, what is solved for is not what the bare prompt meets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedit.consolidation import (
    ConsolidationSettings,
    EditRequest,
    applied,
    build_statistics,
    compute_artefacts,
    solve,
)
from memedit.consolidation.verdicts import GateLimits, Verdict, judge_harm
from memedit.errors import InputError
from memedit.evaluation.datasets import read_cases
from memedit.evaluation.metrics.perplexity import read_text
from memedit.evaluation.metrics.statistics import rate
from memedit.evaluation.requests import SampleRequest, ScoreRequest, continuation
from memedit.evaluation.rows.collapse import as_harm, broken, rise, sentence_perplexities, sentence_requests
from memedit.models import LoadedModel, load_model
from memedit.types import WeightDelta, WeightTerm
from memedit.workflows.answerers import BareAnswerer

Progress = Callable[[str, int, int], None]
_SEED = 20_000
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Args:
        data: CounterFact in a published form.
        model: alias, path or hub id.
        cases: hard cases, from the front of the file.
        methods: solvers; each writes every case alone, and then all together.
        sentences: of the collapse monitor.
        text: a text for half of them.
        statistics_text: of the key statistics; None lets the model write its own.
        statistics_tokens: tokens of it.
        settings: of targets and solve.
        controls: changes of a thousandth of a matrix that the monitor must not warn of; with any, a collapse is
            planted too, which it must see. 0 leaves both out.
    """

    data: Path
    model: str = "smollm2"
    cases: int = 100
    methods: tuple[str, ...] = ("rome", "alphaedit")
    sentences: int = 50
    text: Path | None = None
    statistics_text: Path | None = None
    statistics_tokens: int = 100_000
    settings: ConsolidationSettings = field(default_factory=ConsolidationSettings)
    controls: int = 0


def hard_requests(path: Path, count: int) -> list[EditRequest]:
    """Return the first ``count`` edits whose subject is one word that the prompt begins with.

    Raises:
        InputError: the file has none.
    """
    found: dict[str, EditRequest] = {}
    for case in read_cases(path, "counterfact"):
        edit = case.edits[0]
        subject = edit.subject or ""
        if subject and len(subject.split()) == 1 and edit.prompt.startswith(subject) and edit.prompt not in found:
            name = f"line {case.line}"
            found[edit.prompt] = EditRequest(name, edit.prompt, edit.target, subject, edit.ground_truth)
        if len(found) == count:
            break
    if not found:
        raise InputError(f"{path.name} has no edit whose prompt begins with a subject of one word")
    return list(found.values())


def run(plan: Plan, *, progress: Progress | None = None) -> dict[str, Any]:
    """Write each hard case alone, and all together; return what the collapse monitor says of each.

    Raises:
        DatasetError: a file cannot be read.
        InputError: the data have no hard case.
    """
    told = progress or (lambda _what, _done, _total: None)
    loaded, requests = load_model(plan.model), hard_requests(plan.data, plan.cases)
    answerer = BareAnswerer(loaded)
    texts = None if plan.statistics_text is None else [read_text(plan.statistics_text)]
    statistics = build_statistics(loaded, plan.settings, texts, tokens=plan.statistics_tokens)
    artefacts = compute_artefacts(
        loaded, requests, plan.settings, progress=lambda done, total: told("targets", done, total)
    )
    monitor = _Monitor(answerer, plan)
    rows = []
    for method in plan.methods:
        alone = []
        for number, request in enumerate(requests, start=1):
            own = {request.id: artefacts[request.id]}
            delta = solve(loaded, own, statistics, plan.settings, method, requests=[request])
            with applied(loaded, delta):
                alone.append(monitor.judged([request]))
            told(method, number, len(requests))
        whole = solve(loaded, artefacts, statistics, plan.settings, method, requests=requests)
        with applied(loaded, whole):
            together = monitor.judged(requests)
        rows.append(_row(method, alone, together, requests, whole))
    controls = _controls(loaded, monitor, whole, plan.controls) if plan.controls else {}
    return {
        "model": plan.model, "cases": len(requests), "sentences": len(monitor.sentences), "rows": rows, **controls,
    }  # fmt: skip


def _controls(loaded: LoadedModel, monitor: "_Monitor", like: WeightDelta, count: int) -> dict[str, Any]:
    """Return what the monitor says of a planted collapse, and of how many of ``count`` slight changes it warns.

    Both are changes of the last matrix that ``like`` changes: its largest column fifty times, and random ones.
    """
    name = list(like.terms)[-1]
    stored = loaded.model.get_parameter(f"{name}.weight").detach().double().cpu().numpy()
    weight = stored if stored.shape == like.terms[name].shape else stored.T
    column = int(np.linalg.norm(weight, axis=0).argmax())
    planted = np.zeros_like(weight)
    planted[:, column] = 49.0 * weight[:, column]

    def under(change: NDArray[np.float64]) -> dict[str, Any]:
        with applied(loaded, replace(like, terms={name: WeightTerm(dense=change)})):
            return monitor.judged([])

    verdicts = []
    for seed in range(count):
        noise = np.random.default_rng(seed).standard_normal(weight.shape)
        slight = noise * (1e-3 * np.linalg.norm(weight) / np.linalg.norm(noise))
        verdicts.append(under(slight)["verdict"])
    warned = rate([verdict != Verdict.PASS.value for verdict in verdicts]).as_json()
    seen = {key: value for key, value in under(planted).items() if key != "written"}
    return {"planted": seen, "warned_of_nothing": warned}


class _Monitor:
    """The base's sentences, and what a changed model makes of them."""

    def __init__(self, answerer: BareAnswerer, plan: Plan) -> None:
        self._answerer = answerer

        def sample(wanted: Sequence[SampleRequest]) -> Any:
            prompts = [request.prompt for request in wanted]
            return answerer.sample(prompts, max_new_tokens=wanted[0].max_new_tokens, seed=_SEED)

        text = None if plan.text is None else read_text(plan.text)
        self.sentences = sentence_requests(text, plan.sentences, sample)
        self._before = self._perplexities()

    def _perplexities(self) -> list[float]:
        return sentence_perplexities(self._score(self.sentences))

    def _score(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].target))
        found: dict[int, Any] = {}
        for at in range(0, len(order), _BATCH):
            part = order[at : at + _BATCH]
            scored = self._answerer.score([requests[i].prompt for i in part], [requests[i].target for i in part])
            found |= zip(part, scored, strict=True)
        return [found[i] for i in range(len(requests))]

    def judged(self, requests: Sequence[EditRequest]) -> dict[str, Any]:
        """Return rise in percent, p-value, verdict, broken sentences, and whether each edit's target is foretold."""
        after, limits = self._perplexities(), GateLimits()
        test = rise(self._before, after)
        gate = judge_harm(
            "collapse", as_harm(test), limits.collapse, significance=limits.significance,
            candidate=sum(after) / len(after), base=sum(self._before) / len(self._before), unit="%", what="rise",
        )  # fmt: skip
        asked = [ScoreRequest(r.prompt, continuation(r.prompt, r.target)) for r in requests]
        return {
            "rise": test.difference,
            "p_value": test.p_value,
            "verdict": gate.verdict.value,
            "broken": sum(broken(self._before, after)),
            "written": [all(scored.matches) for scored in self._score(asked)],
        }


def _row(
    method: str,
    alone: Sequence[dict[str, Any]],
    together: dict[str, Any],
    requests: Sequence[EditRequest],
    whole: WeightDelta,
) -> dict[str, Any]:
    """Return one method's figures: of single edits, and of all in one solve."""
    order = sorted(range(len(alone)), key=lambda i: -alone[i]["rise"])
    verdicts = {verdict.value: sum(item["verdict"] == verdict.value for item in alone) for verdict in Verdict}
    return {
        "method": method,
        "alone": {
            "verdicts": {name: count for name, count in verdicts.items() if count},
            "collapsed": rate([item["rise"] > GateLimits().collapse.fail for item in alone]).as_json(),
            "with_broken_sentences": rate([item["broken"] > 0 for item in alone]).as_json(),
            "median_rise": sorted(item["rise"] for item in alone)[len(alone) // 2],
            "written": rate([item["written"][0] for item in alone]).as_json(),
            "worst": [{"prompt": requests[i].prompt, "rise": alone[i]["rise"]} for i in order[:5]],
        },
        "together": {
            "edits": len(whole.edits),
            "rise": together["rise"],
            "p_value": together["p_value"],
            "verdict": together["verdict"],
            "broken": together["broken"],
            "written": rate(together["written"]).as_json(),
        },
    }
