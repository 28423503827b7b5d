"""What weights do for a memory: the same rows asked of the memory alone, the weights alone, and both, gated."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    models = {"memory": bench.alone, "weights": bench.gated}
    spent: dict[str, list[_Spent]] = {"lookup": [], "memory": [], "weights": []}
    for number in range(pairs + 1):
        prompt = [prompts[number % len(prompts)]]
        with _timing(spent["lookup"]):
            plans = {"memory": bench.alone.plan(prompt)}
        plans["weights"] = bench.gated.plan(prompt)
        for name in sorted(models, reverse=number % 2 == 0):
            with _timing(spent[name]):
                _answer(models[name], prompt, plans[name], 1)
    whole = {name: [a + b for a, b in zip(spent["lookup"], spent[name], strict=True)] for name in models}
    return {
        "prompt_tokens": {
            "memory": statistics.mean(_fed(bench.alone, prompt) for prompt in prompts),
            "weights": statistics.mean(map(len, bench.alone.tokenizer(prompts)["input_ids"])),
        },
        "n": pairs,
        "lookup_ms": 1000 * statistics.median(one.wall for one in spent["lookup"][1:]),
        "without_lookup": _compared(spent, "weights", "memory", seed),
        "with_lookup": _compared(whole, "weights", "memory", seed),
    }


def _mixed_batch(bench: _Bench, pairs: int, seed: int) -> dict[str, Any]:
    """Time eight rows of which one is the weights', beside the same rows on the base alone and with the memory."""
    prompts = [*TRAFFIC[: _TRAFFIC - 1], _answered(bench, 1)[0]]
    silent = BatchPlan(tuple(Route(n, no_match(prompt), None) for n, prompt in enumerate(prompts)))
    plans = {"base": silent, "memory": bench.alone.plan(prompts), "gated": bench.gated.plan(prompts)}
    spent: dict[str, list[_Spent]] = {name: [] for name in plans}
    for number in range(pairs + 1):
        for name in sorted(plans, reverse=number % 2 == 0):
            with _timing(spent[name]):
                _answer(bench.gated if name == "gated" else bench.alone, prompts, plans[name], _NEW_TOKENS)
    gated, memory = (_compared(spent, name, "base", seed) for name in ("gated", "memory"))
    return {"rows": len(prompts), "weight_rows": len(plans["gated"].weight_rows), "gated": gated, "memory": memory}


def _answer(model: EditableModel, prompts: Sequence[str], plan: BatchPlan, tokens: int) -> None:
    model.answer(prompts, plan=plan, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)


@dataclass(frozen=True, slots=True)
class _Spent:
    """Seconds by the clock, and of the processor, which other processes disturb less."""

    wall: float
    cpu: float

    def __add__(self, other: "_Spent") -> "_Spent":
        return _Spent(self.wall + other.wall, self.cpu + other.cpu)


@contextmanager
def _timing(spent: list[_Spent]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    spent.append(_Spent(time.perf_counter() - wall, time.process_time() - cpu))


def _compared(spent: Mapping[str, Sequence[_Spent]], one: str, other: str, seed: int) -> dict[str, Any]:
    """Return the medians of two in milliseconds, and of their ratios pair by pair with 95% bootstrap intervals.

    The first pair is not counted.
    """
    pairs = list(zip(spent[one], spent[other], strict=True))[1:]
    found: dict[str, Any] = {}
    for kind in ("wall", "cpu"):
        times = [(getattr(a, kind), getattr(b, kind)) for a, b in pairs]
        ratios = [a / b for a, b in times]
        found[kind] = {
            f"{one}_ms": 1000 * statistics.median(a for a, _ in times),
            f"{other}_ms": 1000 * statistics.median(b for _, b in times),
            "ratio": statistics.median(ratios),
            "ratio_ci95": list(bootstrap_median(ratios, seed)),
        }
    return found


def _fed(model: EditableModel, prompt: str) -> int:
    """Return the tokens that an adapter has the model read for a prompt."""
    row = prompt_row(model.tokenizer, prompt)
    edits = [hit.edit for hit in model.explain(prompt).fired]
    return len(model.adapter.rewrite(row, edits, Artefacts(model.memory, None).of(model.adapter, edits)).ids)
