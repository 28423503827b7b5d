"""The methods of an evaluation on one data set, one after another."""

import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from memedit.evaluation.answering import Generation, Scoring
from memedit.evaluation.cache import OutputCache, Request
from memedit.evaluation.cases import Case, ProbeKind
from memedit.evaluation.datasets.splits import is_held_out_row
from memedit.evaluation.journal import Journal
from memedit.evaluation.metrics.capability import Question, accuracy, capability_requests, read_tasks
from memedit.evaluation.metrics.perplexity import perplexity, perplexity_requests, read_text
from memedit.evaluation.metrics.statistics import Estimate, mean
from memedit.evaluation.metrics.texts import ngram_entropy, tfidf_similarities
from memedit.evaluation.outcome import MethodRun
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.records import Result
from memedit.evaluation.requests import GenerateRequest, plan_generate, plan_score
from memedit.evaluation.results import ResultRow
from memedit.evaluation.rows.base import RowData
from memedit.evaluation.runner import Clock, Served, request_cost, serve
from memedit.evaluation.scoring import Answered, Forced, Observations, observe_age, observe_forced, observe_generated
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import Queries, edits_of, sample_queries
from memedit.workflows.answerers import BareAnswerer, EditedAnswerer
from memedit.workflows.evaluate.lm_eval_tasks import HarnessTasks, check_installed, run_tasks
from memedit.workflows.evaluate.methods import Method
from memedit.workflows.evaluate.rows import AskedMethod, measure_rows, with_findings
from memedit.workflows.evaluate.sharing import SharedOutputs, SharingAnswerer

if TYPE_CHECKING:
    from memedit.workflows.evaluate.config import EvaluationConfig
    from memedit.workflows.evaluate.stage import Stage, Workbench


Estimates = Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Extras:
    """What is asked of every method besides the data: a text's perplexity, capability questions."""

    text: str | None
    tasks: Mapping[str, Sequence[Question]]
    harness: HarnessTasks | None = None

    @classmethod
    def read(
        cls, perplexity: Path | None, capability: Path | None, harness: HarnessTasks | None, settings: EvalSettings
    ) -> "Extras":
        """Read what is given.

        Raises:
            DatasetError: a file is wrong.
            MissingExtraError: harness tasks are asked for, and the harness is not installed.
        """
        if harness is not None:
            check_installed()
        text = None if perplexity is None else read_text(perplexity)
        tasks = {} if capability is None else read_tasks(capability, limit=settings.capability_questions)
        return cls(text, tasks, harness)


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """The rows of one data set, and the text of the edits that fired in them."""

    runs: list[MethodRun]
    edit_texts: dict[tuple[str, int], str]


@dataclass
class StageRuns:
    """Runs every method under every protocol on one data set; see :meth:`run`."""

    stage: "Stage"
    bench: "Workbench"
    methods: Sequence[Method]
    config: "EvaluationConfig"
    extras: Extras
    journal: Journal
    clock: Clock
    cache: OutputCache | None
    shared: SharedOutputs = field(default_factory=SharedOutputs)
    _base: dict[Protocol, Served] = field(default_factory=dict)

    def run(self) -> StageOutcome:
        """Run the methods and return their rows, in the order of the methods."""
        config = self.config
        queries = sample_queries(
            self.stage.cases,
            self.stage.state,
            count=config.queries,
            seed=config.settings.seed,
            probes_per_kind=config.settings.probes_per_kind,
            keep=held_out_of(self.stage.data.format) if config.held_out else None,
        )
        # Baselines that can share rows come last; the table keeps the order of the methods.
        order = sorted(self.methods, key=lambda method: method.shares)
        by_method = {method.name: self._method(method, queries) for method in order}
        if config.rows:
            self._find(by_method, queries)
        runs = [run for method in self.methods for run in by_method[method.name]]
        drafts = edits_of(self.stage.cases)
        fired = {f.edit for run in runs for item in run.answered for f in item.result.fired}
        name = self.stage.data.name
        return StageOutcome(runs, {(name, i): f"{drafts[i].prompt} → {drafts[i].target}" for i in sorted(fired)})

    def _find(self, by_method: dict[str, list[MethodRun]], queries: Queries) -> None:
        """Let further rows ask every method, and put what they find beside its generated answers."""
        settings, methods = self.config.settings, {method.name: method for method in self.methods}
        free = {
            name: next(run for run in runs if run.row.protocol == Protocol.GENERATE) for name, runs in by_method.items()
        }
        base = next(method for method in self.methods if method.is_base)

        def served(method: Method) -> Callable[[str, Sequence[Request]], Sequence[Result]]:
            return lambda what, requests: self._serve(method, queries, f"row/{what}", requests).results

        asked = {
            name: AskedMethod(
                run, self.bench, settings, served(methods[name]), served(base),
                partial(self.stage.answerer, methods[name], queries),
            )
            for name, run in free.items()
        }  # fmt: skip
        data = RowData(
            self.stage.data.format, tuple(self.stage.cases), queries, settings.seed, self.extras.text, settings.samples
        )
        aside = {method.name for method in self.methods if method.shares}
        for name, findings in measure_rows(self.config.rows, asked, data, aside).items():
            place = by_method[name].index(free[name])
            by_method[name][place] = with_findings(free[name], findings)

    def _method(self, method: Method, queries: Queries) -> list[MethodRun]:
        reset_peak_rss()
        shared = self._shared_metrics(method, queries)
        runs = []
        for protocol in self.config.protocols:
            if protocol is Protocol.GENERATE:
                runs.append(self._generate(method, queries, shared))
            else:
                runs.append(self._forced(method, queries, shared))
        return runs

    def _serve(self, method: Method, queries: Queries, unit: str, requests: Sequence[Request]) -> Served:
        served = serve(
            f"{self.stage.name}/{method.name}/{unit}",
            requests,
            _Lazy(self, method, queries),
            batch_size=self.config.settings.batch_size,
            journal=self.journal,
            clock=self.clock,
            cache=self.cache if method.is_base else None,
        )
        if not method.shares and method.weights is None:  # shared rows are those of the base's weights
            self.shared.add(method.adapter, requests, served.results)
        return served

    def _generate(self, method: Method, queries: Queries, shared: Mapping[str, Estimate]) -> MethodRun:
        plan = plan_generate(queries.probes, self.bench.base, self.config.settings)
        served = self._serve(method, queries, "generate", plan.requests)
        if method.is_base:
            self._base[Protocol.GENERATE] = served
        base = self._base[Protocol.GENERATE].results
        answered = tuple(
            Answered(asked, _generation(served.results[i]), _generation(base[i]))
            for asked, i in zip(queries.probes, plan.of_probe, strict=True)
        )
        seen = observe_generated(answered, routed=method.adapter is not None)
        self._tell_age(queries, seen)
        self._continue_freely(method, queries, seen)
        row = self._row((method, Protocol.GENERATE), queries, seen, served, shared)
        return MethodRun(row, seen, answered, thresholded=method.thresholded)

    def _forced(self, method: Method, queries: Queries, shared: Mapping[str, Estimate]) -> MethodRun:
        plan = plan_score(queries.probes)
        served = self._serve(method, queries, "teacher_forced", plan.requests)
        if method.is_base:
            self._base[Protocol.TEACHER_FORCED] = served
        base = self._base[Protocol.TEACHER_FORCED].results
        forced = [
            Forced(asked, _scoring(served.results, a), _scoring(served.results, c), _scoring(base, a))
            for asked, a, c in zip(queries.probes, plan.of_answer, plan.of_contrast, strict=True)
        ]
        seen = observe_forced(forced, routed=method.adapter is not None)
        self._tell_age(queries, seen)
        return MethodRun(self._row((method, Protocol.TEACHER_FORCED), queries, seen, served, shared), seen)

    def _tell_age(self, queries: Queries, seen: Observations) -> None:
        if self.stage.stream.chunk is not None:
            observe_age(seen, queries.probes)

    def _continue_freely(self, method: Method, queries: Queries, seen: Observations) -> None:
        """Observe fluency and consistency on long continuations of edit prompts."""
        settings = self.config.settings
        edits = [asked for asked in queries.probes if asked.probe.kind is ProbeKind.EDIT and not asked.long_form]
        chosen = edits[: settings.fluency_queries]
        if not chosen:
            return
        requests = [GenerateRequest(a.probe.prompt, settings.fluency_tokens, stop_at_newline=False) for a in chosen]
        places = {request: i for i, request in enumerate(dict.fromkeys(requests))}
        served = self._serve(method, queries, "continuations", list(places))
        references = _references(self.stage.cases)
        texts = [_generation(served.results[places[request]]).text for request in requests]
        pairs = [(text, references[asked.probe.answers[0]]) for asked, text in zip(chosen, texts, strict=True)]
        seen.raw.add("fluency")
        for asked, text, consistency in zip(
            chosen, texts, tfidf_similarities(pairs, list(references.values())), strict=True
        ):
            seen.add("fluency", asked.index, ngram_entropy(text))
            seen.add("consistency", asked.index, consistency)

    def _shared_metrics(self, method: Method, queries: Queries) -> dict[str, Estimate]:
        """Return the metrics that are the same under both protocols: those of likelihoods and of the memory."""
        seed = self.config.settings.seed
        gone = self.stage.state.superseded
        found = {"superseded": Estimate(gone, self.stage.edits, gone, gone)}
        if self.extras.text is not None:
            tokens = self.config.settings.perplexity_tokens
            windows = perplexity_requests(self.extras.text, self.bench.base, tokens=tokens)
            served = self._serve(method, queries, "perplexity", windows)
            found["perplexity"] = perplexity([_score(result) for result in served.results], seed=seed)
        for task, questions in self.extras.tasks.items():
            requests = capability_requests(questions)
            places = {request: i for i, request in enumerate(dict.fromkeys(requests))}
            served = self._serve(method, queries, f"capability/{task}", list(places))
            scorings = [_score(served.results[places[request]]) for request in requests]
            found[f"capability.{task}"] = accuracy(questions, scorings)[0]
        if self.extras.harness is not None:
            found |= self._harness(method, queries, self.extras.harness)
        return found

    def _harness(self, method: Method, queries: Queries, tasks: HarnessTasks) -> dict[str, Estimate]:
        """Return accuracies on harness tasks; they are written down as a whole."""
        name = f"{self.stage.name}/{method.name}/harness"
        if self.journal.fact(name) is None:
            estimates = run_tasks(_Lazy(self, method, queries), tasks, batch_size=self.config.settings.batch_size)
            self.journal.add_fact(name, {task: estimate.as_json() for task, estimate in estimates.items()})
        return {f"capability.{task}": Estimate(**value) for task, value in self.journal.fact(name).items()}

    def _row(
        self, work: tuple[Method, Protocol], queries: Queries, seen: Observations, served: Served, shared: Estimates
    ) -> ResultRow:
        method, protocol = work
        seed = self.config.settings.seed
        metrics = {**seen.estimates(seed), **shared}
        if not (method.shares and self.config.settings.share_baselines):
            metrics |= _timings(served, seed)
        if not method.is_base:
            metrics["seconds_per_edit"] = mean(self.stage.seconds_per_edit(method), seed=seed)
        by_weights = self.journal.fact(f"{self.stage.name}/{method.name}/served_by_weights")
        if by_weights is not None and method.adapter is not None:
            share = 100.0 * by_weights / max(1, self.stage.edits)
            metrics["served_by_weights"] = Estimate(share, self.stage.edits, share, share)
        name = f"{self.stage.name}/{method.name}/{protocol}/peak_rss_mb"
        if self.journal.fact(name) is None:
            self.journal.add_fact(name, peak_rss_mb())
        peak = float(self.journal.fact(name))
        metrics["peak_rss_mb"] = Estimate(peak, 1, peak, peak)
        return ResultRow(
            method.name,
            self.config.model,
            self.stage.data.name,
            self.stage.edits,
            len(queries.cases),
            str(protocol),
            metrics,
        )


class _Lazy:
    """A method's answerer that is made when a batch has to be computed, not when the journal has them all."""

    def __init__(self, runs: StageRuns, method: Method, queries: Queries) -> None:
        self._runs, self._method, self._queries = runs, method, queries
        self.count_tokens = runs.bench.base.count_tokens

    @property
    def fingerprint(self) -> str:
        return self._runs.bench.fingerprint(self._method)

    def prepare(self) -> None:
        self._answerer()

    def _answerer(self) -> BareAnswerer | SharingAnswerer:
        made = self._runs.stage.answerer(self._method, self._queries)
        if self._method.shares and self._runs.config.settings.share_baselines and isinstance(made, EditedAnswerer):
            return SharingAnswerer(made, str(self._method.adapter), self._runs.shared)
        return made

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop_at_newline: bool) -> list[Generation]:
        return self._answerer().generate(prompts, max_new_tokens=max_new_tokens, stop_at_newline=stop_at_newline)

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[Generation]:
        return self._answerer().sample(prompts, max_new_tokens=max_new_tokens, seed=seed)

    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Scoring]:
        return self._answerer().score(prompts, targets)


def expected_cost(cases: Sequence[Case], methods: Sequence[Method], config: "EvaluationConfig") -> float:
    """Return about what a data set will cost, in the units of :class:`~memedit.evaluation.runner.Clock`."""
    share = min(1.0, (config.queries or len(cases)) / max(1, len(cases)))
    total = 0.0
    for case in cases:
        for probe in case.probes:
            answer = len(probe.answers[0]) / 4 if probe.answers else 4
            for protocol in config.protocols:
                longer = answer + config.settings.slack_tokens if protocol is Protocol.GENERATE else 0
                total += request_cost(GenerateRequest(probe.prompt, int(longer)))
    return total * share * len(methods)


def reset_peak_rss() -> None:
    """Start the peak of resident memory anew, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float:
    """Return the peak of resident memory in MiB since :func:`reset_peak_rss`, or since the process began."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _timings(served: Served, seed: int) -> dict[str, Estimate]:
    """Return speeds over the batches as they were measured; rates are weighted by what each batch counts."""
    timed = [(rows, tokens, seconds) for rows, tokens, seconds in served.batches if seconds > 0]
    if not timed:
        return {}
    seconds = [s for _, _, s in timed]
    rows = [float(r) for r, _, _ in timed]
    return {
        "tokens_per_second": mean([t / s for _, t, s in timed], seed=seed, weights=seconds),
        "milliseconds_per_query": mean([1000 * s / r for r, _, s in timed], seed=seed, weights=rows),
    }


def held_out_of(form: str) -> Callable[[Case], bool]:
    """Return what says whether no shipped weights were trained on a case of a file of this format."""
    return lambda case: is_held_out_row(form, case.line, (edit.prompt for edit in case.edits))


def _references(cases: Sequence[Case]) -> dict[str, str]:
    """Return for each target the text of all edits of the stream that have it."""
    texts: dict[str, list[str]] = {}
    for edit in edits_of(cases):
        texts.setdefault(edit.target, []).append(f"{edit.prompt} {edit.target}.")
    return {target: " ".join(found) for target, found in texts.items()}


def _generation(result: object) -> Generation:
    if not isinstance(result, Generation):
        raise TypeError(f"expected a generation, found {type(result).__name__}")
    return result


def _score(result: object) -> Scoring:
    if not isinstance(result, Scoring):
        raise TypeError(f"expected a scoring, found {type(result).__name__}")
    return result


def _scoring(results: Sequence[object], place: int | None) -> Scoring | None:
    return None if place is None else _score(results[place])
