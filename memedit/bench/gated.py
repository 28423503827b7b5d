"""What weights do for a memory: the same rows asked of the memory alone, the weights alone, and both, gated."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.bench.common import TRAFFIC
from memedit.bench.overhead import bootstrap_median
from memedit.consolidation.apply import applied, edited_weights
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.held import EditsInWeights
from memedit.consolidation.records import DELTA, VersionRecord, WeightScope
from memedit.consolidation.versions import VersionStore
from memedit.encoders.base import Progress
from memedit.errors import InputError
from memedit.evaluation.answering import Answerer, Generation
from memedit.evaluation.datasets import DataFile, read_cases
from memedit.evaluation.metrics.statistics import Estimate, rate
from memedit.evaluation.requests import plan_generate
from memedit.evaluation.scoring import Answered, observe_generated
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import AskedProbe, EditedState, edits_of, sample_queries
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.runtime import EditableModel
from memedit.runtime.artefacts import Artefacts
from memedit.runtime.passages import no_match
from memedit.runtime.rows import prompt_row
from memedit.types import BatchPlan, Edit, EditState, Route, WeightDelta
from memedit.workflows.answerers import BareAnswerer, EditedAnswerer
from memedit.workflows.consolidate.asking import generate_all
from memedit.workflows.evaluate.weights import WrittenWeights

_SHOWN = ("reliability", "generality", "locality")
_TRAFFIC = 8
_NEW_TOKENS = 16


@dataclass(frozen=True, slots=True)
class _Bench:
    """One base model with a memory, and the same with a version's weights for the rows that these answer."""

    loaded: LoadedModel
    memory: EditMemory
    record: VersionRecord
    delta: WeightDelta
    alone: EditableModel
    gated: EditableModel


def run(
    memory: EditMemory,
    loaded: LoadedModel,
    store: VersionStore,
    data: DataFile,
    *,
    queries: int = 250,
    pairs: int = 40,
    scope: str = "default",
    adapter: str = "default",
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask rows of a data file whose edits the champion was made of; greedy, free-running, each system the same batches.

    Reported for each system: answers that equal the target on the edits' prompts and on paraphrases that nobody stored,
    and unrelated answers that equal the untouched base's token for token. Then, on prompts that the weights answer,
    tokens fed and time to the first token with the memory alone and gated, alternating in one run; and what it costs to
    put one row of eight on other weights.

    Args:
        memory: the edits.
        loaded: the frozen base.
        store: its versions.
        data: cases.
        queries: cases asked about.
        pairs: timed pairs.
        scope: registered name; so is ``adapter``.
        seed: of the cases drawn and the bootstrap.
        progress: called with (rows answered, rows).

    Raises:
        InputError: no version was published, or the weights answer no edit.
        FingerprintMismatchError: the champion was made from another base.
    """
    bench = _bench(memory, loaded, store, scope, adapter)
    probes = _probes(bench, data, queries, seed)
    base = BareAnswerer(loaded)
    found: dict[str, Any] = {
        "benchmark": "gated",
        "model": loaded.name,
        "version": bench.record.name,
        "edits": len(bench.record.edits) + len(bench.record.rejected),
        "in_weights": len(bench.record.served),
        "in_any_wording": sum(edit.any_wording for edit in bench.record.served),
    }
    found["systems"] = _systems(bench, base, probes, progress)
    found["served_by_weights"] = _served(bench, probes)
    found |= {"first_token": _first_tokens(bench, pairs, seed), "mixed_batch": _mixed_batch(bench, pairs, seed)}
    found["bytes"] = {
        "delta": (store.folder(bench.record.name) / DELTA).stat().st_size,
        "second_copy": sum(v.nbytes for v in edited_weights(loaded.model, bench.delta).values()),
        "model": sum(parameter.nbytes for parameter in loaded.model.parameters()),
    }
    return found


def _bench(memory: EditMemory, loaded: LoadedModel, store: VersionStore, scope: str, adapter: str) -> _Bench:
    record = store.champion()
    if record is None:
        raise InputError(f"no version was published in {store.root}; `memedit consolidate` makes one")
    if not record.served:
        raise InputError(f"the weights of {record.name} answer no edit, so there is nothing to compare")
    delta = load_delta(store.folder(record.name) / DELTA)
    written = WrittenWeights(delta, EditsInWeights(record.edits, WeightScope.GATED))
    alone = EditableModel.wrap(loaded.model, loaded.tokenizer, memory, scope=scope, adapter=adapter)
    gated = EditableModel.wrap(
        loaded.model, loaded.tokenizer, memory, scope=alone.scope, adapter=alone.adapter, version=written
    )
    return _Bench(loaded, memory, record, delta, alone, gated)


def _probes(bench: _Bench, data: DataFile, queries: int, seed: int) -> tuple[AskedProbe, ...]:
    """Return the probes of cases whose edits the champion was made of."""
    cases = list(read_cases(data.path, data.format))
    tried = {edit.id for edit in (*bench.record.edits, *bench.record.rejected)}
    stored = {(edit.prompt, edit.target) for edit in _in_force(bench.memory) if edit.id in tried}
    standing = (p if (e.prompt, e.target) in stored else None for p, e in enumerate(edits_of(cases)))
    return sample_queries(cases, EditedState(tuple(standing)), count=queries, seed=seed).probes


def _in_force(memory: EditMemory) -> list[Edit]:
    return [edit for state in (EditState.ACTIVE, EditState.CONSOLIDATED) for edit in memory.list(state=state)]


def _systems(
    bench: _Bench, base: BareAnswerer, probes: Sequence[AskedProbe], progress: Progress | None
) -> dict[str, dict[str, Estimate]]:
    settings = EvalSettings()
    plan = plan_generate(probes, base, settings)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, 4 * len(plan.requests))

    def asked(answerer: Answerer) -> list[Generation]:
        found = generate_all(answerer, plan.requests, batch_size=settings.batch_size, tick=tick)
        return [found[place] for place in plan.of_probe]

    def edited(model: EditableModel) -> EditedAnswerer:
        return EditedAnswerer(bench.loaded, model, {}, base.end, bench.loaded.fingerprint)

    untouched = asked(base)
    answers = {"memory only": asked(edited(bench.alone)), "hybrid, gated": asked(edited(bench.gated))}
    with applied(bench.loaded, bench.delta):
        answers["weights only"] = asked(base)
    return {name: _figures(probes, found, untouched) for name, found in answers.items()}


def _figures(
    probes: Sequence[AskedProbe], answers: Sequence[Generation], untouched: Sequence[Generation]
) -> dict[str, Estimate]:
    triples = zip(probes, answers, untouched, strict=True)
    found = observe_generated([Answered(*triple) for triple in triples], routed=False).estimates(0)
    return {name: found[name] for name in _SHOWN if name in found}


def _served(bench: _Bench, probes: Sequence[AskedProbe]) -> dict[str, Estimate]:
    """Return the share of rows, by kind, that the weights answer."""
    plan = bench.gated.plan([asked.probe.prompt for asked in probes])
    held: dict[str, list[bool]] = {}
    for asked, route in zip(probes, plan.routes, strict=True):
        held.setdefault(str(asked.probe.kind), []).append(route.row in plan.weight_rows)
    return {kind: rate(values) for kind, values in held.items()}


def _answered(bench: _Bench, count: int) -> list[str]:
    """Return prompts that the weights answer, and the memory alone by one edit; at most so many."""
    ids = {edit.id for edit in bench.record.served}
    prompts = [edit.prompt for edit in _in_force(bench.memory) if edit.id in ids][: 2 * count + 8]
    both = zip(prompts, bench.gated.plan(prompts).routes, bench.alone.plan(prompts).routes, strict=True)
    found = [prompt for prompt, one, other in both if one.decision.in_weights and len(other.fired) == 1][:count]
    if not found:
        raise InputError(f"no prompt is answered by the weights of {bench.record.name}")
    return found


def _first_tokens(bench: _Bench, pairs: int, seed: int) -> dict[str, Any]:
    """Time one new token of prompts that the weights answer, look-up apart, with the memory alone and gated."""
    prompts = _answered(bench, pairs)
    seconds: dict[str, list[float]] = {"lookup": [], "memory": [], "weights": []}
    for number in range(pairs + 1):
        prompt = prompts[number % len(prompts)]
        begun = time.perf_counter()
        plans = {"memory": bench.alone.plan([prompt])}
        seconds["lookup"].append(time.perf_counter() - begun)
        plans["weights"] = bench.gated.plan([prompt])
        models = {"memory": bench.alone, "weights": bench.gated}
        for name in sorted(models, reverse=number % 2 == 0):
            seconds[name].append(_seconds(models[name], [prompt], plans[name], 1))
    timed = {name: values[1:] for name, values in seconds.items()}  # the first one is not counted
    whole = {name: _sums(timed["lookup"], timed[name]) for name in ("memory", "weights")}
    return {
        "prompt_tokens": {
            "memory": statistics.mean(_fed(bench.alone, prompt) for prompt in prompts),
            "weights": statistics.mean(map(len, bench.alone.tokenizer(prompts)["input_ids"])),
        },
        "n": pairs,
        "lookup_ms": 1000 * statistics.median(timed["lookup"]),
        "without_lookup": _compared(timed, "weights", "memory", seed),
        "with_lookup": _compared(whole, "weights", "memory", seed),
    }


def _mixed_batch(bench: _Bench, pairs: int, seed: int) -> dict[str, Any]:
    """Time eight rows of which one is the weights', beside the same rows on the base alone and with the memory."""
    prompts = [*TRAFFIC[: _TRAFFIC - 1], _answered(bench, 1)[0]]
    models = {"memory": bench.alone, "gated": bench.gated}
    plans = {name: model.plan(prompts) for name, model in models.items()}
    silent = BatchPlan(tuple(Route(n, no_match(prompt), None) for n, prompt in enumerate(prompts)))
    seconds: dict[str, list[float]] = {"base": [], "memory": [], "gated": []}
    for number in range(pairs + 1):
        for name in sorted(seconds, reverse=number % 2 == 0):
            model, plan = models.get(name, bench.alone), plans.get(name, silent)
            seconds[name].append(_seconds(model, prompts, plan, _NEW_TOKENS))
    timed = {name: values[1:] for name, values in seconds.items()}
    gated, memory = (_compared(timed, name, "base", seed) for name in ("gated", "memory"))
    return {"rows": len(prompts), "weight_rows": len(plans["gated"].weight_rows), "gated": gated, "memory": memory}


def _seconds(model: EditableModel, prompts: Sequence[str], plan: BatchPlan, tokens: int) -> float:
    begun = time.perf_counter()
    model.answer(prompts, plan=plan, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)
    return time.perf_counter() - begun


def _sums(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(ones, others, strict=True)]


def _compared(seconds: Mapping[str, Sequence[float]], one: str, other: str, seed: int) -> dict[str, Any]:
    """Return the medians of two in milliseconds, and of their ratios pair by pair with a 95% bootstrap interval."""
    ratios = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
    medians = {f"{name}_ms": 1000 * statistics.median(seconds[name]) for name in (one, other)}
    return {**medians, "ratio": statistics.median(ratios), "ratio_ci95": list(bootstrap_median(ratios, seed))}


def _fed(model: EditableModel, prompt: str) -> int:
    """Return the tokens that an adapter has the model read for a prompt."""
    row = prompt_row(model.tokenizer, prompt)
    edits = [hit.edit for hit in model.explain(prompt).fired]
    return len(model.adapter.rewrite(row, edits, Artefacts(model.memory, None).of(model.adapter, edits)).ids)
