"""How edits in the weights hold as they grow in number, method by method, all at once and batch after batch."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedit.consolidation import (
    SOLVERS,
    ConsolidationSettings,
    EditArtefact,
    EditRequest,
    Statistics,
    applied,
    artefact_fingerprint,
    build_statistics,
    compute_artefacts,
    solve,
)
from memedit.consolidation.sequential import solve_in_turn
from memedit.errors import InputError
from memedit.evaluation.answering import Scoring
from memedit.evaluation.cases import Case, Probe, ProbeKind
from memedit.evaluation.datasets import read_cases
from memedit.evaluation.metrics.capability import Question, accuracy, capability_requests, read_tasks
from memedit.evaluation.metrics.perplexity import perplexity, perplexity_requests, read_text
from memedit.evaluation.metrics.statistics import Estimate, mcnemar, rate, spearman
from memedit.evaluation.requests import ScoreRequest, continuation
from memedit.evaluation.rows.shattering import PROMPT, entities
from memedit.evaluation.rows.shattering import estimate as shattered
from memedit.evaluation.touching import TouchedPrompts
from memedit.models import LoadedModel, load_model
from memedit.types import WeightDelta
from memedit.workflows.answerers import BareAnswerer
from memedit.workflows.states import last_states, state_layers

Progress = Callable[[str, int, int], None]
METRICS = {
    ProbeKind.EDIT: "efficacy", ProbeKind.PARAPHRASE: "paraphrase", ProbeKind.LOCALITY: "specificity",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Args:
        model: alias, path or hub id.
        data: file of cases with old answers (CounterFact).
        format: its form.
        edits: numbers of edits, taken from the front of the file; of contradicting edits the later one counts.
        methods: solvers by name.
        sequential: size of a batch, to also edit batch after batch; None leaves that out.
        joint: also solve for all edits at once, with the methods that can.
        report: called with each row as it is measured, so that a long run that is stopped has said something.
        queries: cases asked about at most, spread evenly over the stream.
        statistics_text: plain text for the key statistics; None lets the model write its own.
        statistics_tokens: so many tokens of it.
        perplexity_text: plain text to take the perplexity of; None leaves it out.
        perplexity_tokens: so many tokens of it.
        capability: a file of multiple-choice questions, or a folder of them; None leaves them out.
        capability_questions: so many from the front of each file.
        settings: of targets and solve.
        keep: folder for keys and targets, so that another run needs not compute them.
        batch_size: rows in one batch.
        shattering: also say how far distances between entities are bent (R), and how R goes with specificity lost.
    """

    model: str
    data: Path
    format: str = "counterfact"
    edits: tuple[int, ...] = (10, 100)
    methods: tuple[str, ...] = ("alphaedit", "memit")
    sequential: int | None = None
    joint: bool = True
    report: Callable[[dict[str, Any]], None] | None = None
    queries: int = 200
    statistics_text: Path | None = None
    statistics_tokens: int = 100_000
    perplexity_text: Path | None = None
    perplexity_tokens: int = 8_000
    capability: Path | None = None
    capability_questions: int = 25
    settings: ConsolidationSettings = field(default_factory=ConsolidationSettings)
    keep: Path | None = None
    batch_size: int = 32
    shattering: bool = False


def run(plan: Plan, *, progress: Progress | None = None) -> dict[str, Any]:
    """Measure every method at every number of edits.

    Efficacy, paraphrase and specificity are ROME's tests (arXiv 2202.05262): the wanted answer is more likely than the
    other one, by mean log-probability of a token. Specificity leaves out prompts that another edit touches; on the same
    prompts ``locality`` says how often the likeliest next token is the base's.

    Returns:
        a JSON-able mapping: figures of the untouched base, rows by method, stream and number of edits, and, by method,
        the edited layers, the settings, and processor seconds an edit for keys and targets (``seconds_per_edit``; None
        where all were kept) with the mean number of optimisation steps.

    Raises:
        DatasetError: the data cannot be read.
        InputError: fewer edits are in the file than asked for.
    """
    bench = _Bench(plan, progress)
    rows = []
    for row in bench.rows():
        rows.append(row)
        if plan.report is not None:
            plan.report(row)
    asked = {method: bench.asked(method) for method in bench.joint_methods}
    return {
        "model": plan.model,
        "base": bench.loaded.fingerprint,
        "layers": {method: sorted(bench.statistics(method).layers) for method in plan.methods},
        "settings": {name: getattr(plan.settings, name) for name in plan.settings.__slots__},
        "seconds_per_edit": {method: found.seconds_per_edit for method, found in asked.items()},
        "steps_per_edit": {method: found.steps_per_edit for method, found in asked.items()},
        "rows": rows,
        **_with_specificity(rows),
    }


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the edits ask for, each of the frozen base."""

    artefacts: dict[str, EditArtefact]
    seconds_per_edit: float | None

    @property
    def steps_per_edit(self) -> float:
        """Optimisation steps an edit, on average."""
        return round(sum(artefact.steps for artefact in self.artefacts.values()) / len(self.artefacts), 2)


def _with_specificity(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return Spearman's correlation, over all candidates, of R with the points of specificity that they lose."""
    before = {row["edits"]: row["specificity"]["value"] for row in rows if row["method"] == "base"}
    pairs = [
        (row["shattering"]["value"], before[row["edits"]] - row["specificity"]["value"])
        for row in rows
        if "shattering" in row and row["method"] != "base"
    ]
    found = spearman([r for r, _ in pairs], [lost for _, lost in pairs])
    return {} if found is None else {"shattering_with_specificity_lost": found.as_json()}


class _Bench:
    """Model and edits; statistics, keys and targets when a method first needs them."""

    def __init__(self, plan: Plan, progress: Progress | None) -> None:
        self.plan, self._progress = plan, progress
        self.loaded: LoadedModel = load_model(plan.model)
        self.answerer = BareAnswerer(self.loaded)
        self.cases = _standing(list(read_cases(plan.data, plan.format, limit=max(plan.edits))), max(plan.edits))
        self.questions = _questions(plan)
        self._states: NDArray[np.float32] | None = None
        self.answered = self._answered()
        self.requests = [_request(case) for case in self.cases]
        self._likeliest: dict[str, tuple[int, ...]] = {}
        self._statistics: dict[ConsolidationSettings, Statistics] = {}
        self._asked: dict[ConsolidationSettings, _Asked] = {}

    @property
    def joint_methods(self) -> list[str]:
        """The methods that solve for all edits at once, where that is wanted."""
        return [m for m in self.plan.methods if self.plan.joint and SOLVERS.get(m).keeps_off is None]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the base's figures, then those of the methods, all edits at once and batch after batch."""
        yield from (self.row("base", "batch", n, None) for n in self.plan.edits)
        yield from (self.joint_row(method, n) for n in self.plan.edits for method in self.joint_methods)
        if self.plan.sequential is not None:
            for method in self.plan.methods:
                yield from self.rows_in_turn(method, self.plan.sequential)

    def settings(self, method: str) -> ConsolidationSettings:
        """Return the settings a method is run with."""
        return self.plan.settings.for_method(method)

    def statistics(self, method: str) -> Statistics:
        """Return the statistics a method works from; methods that ask in the same way share them."""
        settings = self.settings(method)
        if settings not in self._statistics:
            text = self.plan.statistics_text
            self._statistics[settings] = build_statistics(
                self.loaded,
                settings,
                None if text is None else [read_text(text)],
                tokens=self.plan.statistics_tokens,
                progress=self._stage("statistics"),
            )
        return self._statistics[settings]

    def asked(self, method: str) -> _Asked:
        """Return what the edits ask for, of the frozen base; methods that ask in the same way share it."""
        settings = self.settings(method)
        if settings not in self._asked:
            started = time.process_time()
            found, computed = self._artefacts(settings)
            seconds = (time.process_time() - started) / computed if computed else None
            self._asked[settings] = _Asked(found, seconds)
        return self._asked[settings]

    def _stage(self, name: str) -> Callable[[int, int], None] | None:
        progress = self._progress
        return None if progress is None else lambda done, total: progress(name, done, total)

    def _artefacts(self, settings: ConsolidationSettings) -> tuple[dict[str, EditArtefact], int]:
        folder = None
        if self.plan.keep is not None:
            folder = self.plan.keep / artefact_fingerprint(self.loaded.fingerprint, settings)[:16]
            folder.mkdir(parents=True, exist_ok=True)
        known = {} if folder is None else dict(_kept(folder, [request.id for request in self.requests]))

        def save(batch: Any) -> None:
            for edit, artefact in batch.items():
                if folder is not None:
                    (folder / f"{edit}.safetensors").write_bytes(artefact.to_bytes())

        found = compute_artefacts(
            self.loaded, self.requests, settings, progress=self._stage("targets"), known=known, save=save
        )
        return found, len(found) - len(known)

    def joint_row(self, method: str, count: int) -> dict[str, Any]:
        """Return the figures of a method after ``count`` edits, all solved for at once."""
        requests = self.requests[:count]
        asked, statistics = self.asked(method), self.statistics(method)
        chosen = {request.id: asked.artefacts[request.id] for request in requests}
        started = time.process_time()
        delta = solve(
            self.loaded,
            chosen,
            statistics,
            self.settings(method),
            method,
            requests=requests,
            progress=self._stage(f"{method}, polishing"),
        )
        return self.row(method, "batch", count, delta, time.process_time() - started)

    def rows_in_turn(self, method: str, size: int) -> Iterator[dict[str, Any]]:
        """Yield a method's figures at each number of edits above ``size``, from one walk in batches of that size.

        A batch also ends where figures are taken.
        """
        counts = {min(count, len(self.requests)): count for count in sorted(self.plan.edits) if count > size}
        ends = sorted({*range(size, max(counts, default=0), size), *counts})
        batches = [self.requests[start:end] for start, end in pairwise([0, *ends])]
        stream = f"sequential:{size}"
        deltas = solve_in_turn(
            self.loaded,
            batches,
            self.statistics(method),
            self.settings(method),
            method,
            progress=self._stage(f"{method} {stream}"),
        )
        seconds = 0.0
        for end in ends:
            started = time.process_time()
            delta = next(deltas)
            seconds += time.process_time() - started
            if end in counts:
                yield self.row(method, stream, counts[end], delta, seconds)

    def row(
        self, method: str, stream: str, count: int, delta: WeightDelta | None, seconds: float = 0.0
    ) -> dict[str, Any]:
        """Return the figures of the model with ``delta`` (None: the untouched base), asked about ``count`` edits."""
        with nullcontext() if delta is None else applied(self.loaded, delta):
            figures = self._measure(count)
            if self.plan.shattering:
                figures["shattering"] = self._shattering()
            tested = self._capability(self.answered if delta is None else self._answered())
        shown = {name: estimate.as_json() for name, estimate in figures.items()} | tested
        change = {} if delta is None else {"relative_change": self._relative_change(delta)}
        return {
            "method": method, "stream": stream, "edits": count, "solve_seconds": round(seconds, 3), **change, **shown,
        }  # fmt: skip

    def _shattering(self) -> Estimate:
        """Return R at the layer that is bent most, of the model as it stands; 0 for the base, which is asked first."""
        texts = [PROMPT.format(name) for name in entities([r.subject for r in self.requests if r.subject])]
        layers = state_layers(self.loaded, self.plan.settings.layers)
        states = last_states(self.loaded, self.answerer, texts, layers)
        before = self._states = states if self._states is None else self._states
        found = [shattered(before[:, i], states[:, i]) for i in range(len(layers))]
        return max(found, key=lambda estimate: estimate.value)

    def _relative_change(self, delta: WeightDelta) -> dict[str, float]:
        sizes = {name: float(self.loaded.model.get_parameter(f"{name}.weight").detach().norm()) for name in delta.terms}
        return {name: round(float(np.linalg.norm(t.matrix())) / sizes[name], 5) for name, t in delta.terms.items()}

    def _measure(self, count: int) -> dict[str, Estimate]:
        cases = self.cases[:count]
        touched = TouchedPrompts({i: case.edits[0] for i, case in enumerate(cases)})
        step = max(1, count // self.plan.queries)
        asked = [probe for case in cases[::step] for probe in case.probes if _is_asked(probe, touched)]
        pairs = [(p.prompt, continuation(p.prompt, a)) for p in asked for a in (p.answers[0], p.contrast or "")]
        scores = self._score(pairs)
        wins: dict[str, list[bool]] = {}
        for i, probe in enumerate(asked):
            wanted, other = scores[2 * i], scores[2 * i + 1]
            wins.setdefault(METRICS[probe.kind], []).append(_mean(wanted) > _mean(other))
            if probe.kind is not ProbeKind.LOCALITY:
                wins.setdefault(f"{METRICS[probe.kind]}.exact", []).append(all(wanted.matches))
        found = {name: rate(values) for name, values in wins.items()}
        unrelated = [probe.prompt for probe in asked if probe.kind is ProbeKind.LOCALITY]
        if unrelated:
            found["locality"] = rate(self._unmoved(unrelated))
        if self.plan.perplexity_text is not None:
            text = read_text(self.plan.perplexity_text)
            windows = perplexity_requests(text, self.answerer, tokens=self.plan.perplexity_tokens)
            found["perplexity"] = perplexity(self._score([_pair(window) for window in windows], rows=8), seed=0)
        return found

    def _unmoved(self, prompts: Sequence[str]) -> list[bool]:
        """Say of each prompt whether its likeliest next token is the one that the untouched base gave."""
        tokens: dict[str, tuple[int, ...]] = {}
        for start in range(0, len(prompts), self.plan.batch_size):
            batch = prompts[start : start + self.plan.batch_size]
            found = self.answerer.generate(batch, max_new_tokens=1, stop_at_newline=False)
            tokens |= {prompt: tuple(said.token_ids) for prompt, said in zip(batch, found, strict=True)}
        self._likeliest = tokens | self._likeliest  # the base's row comes first
        return [tokens[prompt] == self._likeliest[prompt] for prompt in prompts]

    def _answered(self) -> list[bool]:
        """Return which questions the model as it stands answers rightly."""
        scores = self._score([_pair(request) for request in capability_requests(self.questions)])
        return accuracy(self.questions, scores)[1] if self.questions else []

    def _capability(self, right: Sequence[bool]) -> dict[str, Any]:
        """Return the share of questions answered rightly, and McNemar's test against the base."""
        if not right:
            return {}
        test = mcnemar(self.answered, right)
        return {"capability": rate(right).as_json(), "capability.p_value": round(test.p_value, 4)}

    def _score(self, pairs: Sequence[tuple[str, str]], *, rows: int | None = None) -> list[Scoring]:
        size = rows or self.plan.batch_size
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        found: dict[int, Scoring] = {}
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            scored = self.answerer.score([pairs[i][0] for i in chosen], [pairs[i][1] for i in chosen])
            found |= zip(chosen, scored, strict=True)
        return [found[i] for i in range(len(pairs))]


def _standing(cases: Sequence[Case], wanted: int) -> list[Case]:
    """Return the cases whose edit no later one with the same prompt contradicts."""
    if len(cases) < wanted:
        raise InputError(f"the data file holds {len(cases)} edits, {wanted} are asked for")
    last = {case.edits[0].prompt: i for i, case in enumerate(cases)}
    return [replace(case) for i, case in enumerate(cases) if last[case.edits[0].prompt] == i]


def _questions(plan: Plan) -> list[Question]:
    """Return the first questions of every capability task."""
    if plan.capability is None:
        return []
    tasks = read_tasks(plan.capability, limit=plan.capability_questions)
    return [question for questions in tasks.values() for question in questions]


def _request(case: Case) -> EditRequest:
    draft = case.edits[0]
    words = "\0".join((draft.prompt, draft.target, draft.subject or ""))
    name = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return EditRequest(name, draft.prompt, draft.target, draft.subject, draft.ground_truth)


def _kept(folder: Path, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for edit in ids:
        path = folder / f"{edit}.safetensors"
        if path.is_file():
            yield edit, path.read_bytes()


def _is_asked(probe: Probe, touched: TouchedPrompts) -> bool:
    if probe.kind not in METRICS or probe.contrast is None:
        return False
    return probe.kind is not ProbeKind.LOCALITY or not touched.touching(probe.prompt)


def _pair(request: ScoreRequest) -> tuple[str, str]:
    return request.prompt, request.target


def _mean(scoring: Scoring) -> float:
    return sum(scoring.logprobs) / max(1, len(scoring.logprobs))
