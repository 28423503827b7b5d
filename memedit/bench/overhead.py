"""What the wrapper costs on traffic that no edit touches, against the bare model in the same run."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from memedit.adapters import Adapter, create_adapter
from memedit.bench.common import TRAFFIC, made_up_facts
from memedit.encoders.base import Progress
from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.models import LoadedModel, load_model
from memedit.runtime import EditableModel
from memedit.training.elder.run import adapter_options, train_elder


def run(
    *,
    model: str = "smollm2",
    edits: int = 1000,
    batch_sizes: Sequence[int] = (1, 8),
    new_tokens: int = 64,
    pairs: int = 9,
    seed: int = 0,
    scope: str = "default",
    adapter: str = "default",
    in_scope: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time ``generate`` bare and wrapped, alternating, on prompts that no stored edit concerns, or that edits answer.

    Each pair runs both, in alternating order, on the same prompts; where no edit concerns them both must return the
    same tokens. Reported for each batch size: medians in seconds, the median over pairs of wrapped / bare with a 95%
    bootstrap interval, by the clock and by processor time (which other processes disturb less; give torch one thread
    for it, since threads that wait count too), and the look-up alone in milliseconds, which is what the wrapper adds.

    Args:
        model: alias, path or hub id.
        edits: made-up facts in the memory.
        batch_sizes: rows a call.
        new_tokens: tokens generated a row (neither fewer nor more).
        pairs: timed pairs for each batch size, after one that is not counted.
        seed: for the facts and the bootstrap.
        scope: registered name; so is ``adapter``. ELDER is trained on the facts first, about a second for each.
        in_scope: ask about stored facts, so that every row is edited.
        progress: called with (done, total) pairs.

    Raises:
        InputError: a number is below 1, an edit fires on the untouched traffic, or none on a stored fact.
    """
    if min(edits, new_tokens, pairs, *batch_sizes) < 1:
        raise InputError(f"edits={edits}, batch_sizes={batch_sizes}, new_tokens={new_tokens}, pairs={pairs}: all >= 1")
    loaded = load_model(model)
    total, done = len(batch_sizes) * (pairs + 1), 0
    with EditMemory(":memory:") as memory, TemporaryDirectory() as folder:
        facts = made_up_facts(edits, seed)
        memory.add_many(facts, on_conflict="supersede")
        prompts = tuple(fact.prompt for fact in facts) if in_scope else TRAFFIC
        made = _trained(loaded, memory, folder) if adapter == "elder" else adapter
        editable = EditableModel.wrap(loaded.model, loaded.tokenizer, memory, scope=scope, adapter=made)
        results = []
        for size in batch_sizes:
            traffic = _Traffic([prompts[i % len(prompts)] for i in range(size)], in_scope)
            timings = []
            for timing in _pairs(editable, traffic, new_tokens, pairs + 1):
                timings.append(timing)
                done += 1
                if progress is not None:
                    progress(done, total)
            results.append(_summary(editable, traffic.prompts, timings[1:], seed))
        return {
            "benchmark": "overhead",
            "model": model,
            "fingerprint": loaded.fingerprint,
            "scope": editable.scope.name,
            "adapter": editable.adapter.name,
            "in_scope": in_scope,
            "edits": memory.count(),
            "new_tokens": new_tokens,
            "pairs": pairs,
            "results": results,
            "ratio": max(result["ratio"] for result in results),
        }


def _trained(loaded: LoadedModel, memory: EditMemory, folder: str) -> Adapter:
    train_elder(loaded, memory, out=folder)
    return create_adapter("elder", loaded.model, loaded.tokenizer, **adapter_options(memory))


@dataclass(frozen=True, slots=True)
class _Timing:
    """Seconds of one call: by the clock, and of the processor (all threads, of this process alone)."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class _Traffic:
    """The prompts of a batch, and whether edits answer them all or none."""

    prompts: list[str]
    in_scope: bool


def _pairs(
    editable: EditableModel, traffic: _Traffic, new_tokens: int, pairs: int
) -> Iterator[tuple[_Timing, _Timing]]:
    """Yield (bare, wrapped) timings, the order changing from pair to pair."""
    arguments = _arguments(editable, traffic, new_tokens)
    calls: list[Callable[[], Any]] = [
        lambda: editable.base.generate(**arguments),
        lambda: editable.generate(**arguments),
    ]
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        timings, outputs = [_Timing(0, 0)] * 2, [None, None]
        for which in order:
            wall, cpu = time.perf_counter(), time.process_time()
            outputs[which] = calls[which]()
            timings[which] = _Timing(time.perf_counter() - wall, time.process_time() - cpu)
        if not traffic.in_scope and not bool((outputs[0] == outputs[1]).all()):  # type: ignore[attr-defined]
            raise InputError("the wrapped model's tokens differ from the bare model's: an edit fires on the traffic")
        yield timings[0], timings[1]


def _arguments(editable: EditableModel, traffic: _Traffic, new_tokens: int) -> dict[str, Any]:
    edited = len(editable.plan(traffic.prompts).edited_rows)
    if edited != (len(traffic.prompts) if traffic.in_scope else 0):
        raise InputError(
            f"edits fire on {edited} of {len(traffic.prompts)} prompts that are about "
            f"{'stored facts' if traffic.in_scope else 'none of the facts'}"
        )
    batch = editable.tokenizer(traffic.prompts, return_tensors="pt", padding=True, padding_side="left").to(
        editable.device
    )
    lengths = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], **lengths}


def _summary(
    editable: EditableModel, prompts: Sequence[str], timings: Sequence[tuple[_Timing, _Timing]], seed: int
) -> dict[str, Any]:
    ratios = [wrapped.wall / bare.wall for bare, wrapped in timings]
    cpu_ratios = [wrapped.cpu / bare.cpu for bare, wrapped in timings]
    lookups = []
    for _ in range(20):
        start = time.perf_counter()
        editable.plan(prompts)
        lookups.append(time.perf_counter() - start)
    return {
        "batch_size": len(prompts),
        "bare_seconds": statistics.median(bare.wall for bare, _ in timings),
        "wrapped_seconds": statistics.median(wrapped.wall for _, wrapped in timings),
        "ratio": statistics.median(ratios),
        "ratio_ci95": list(bootstrap_median(ratios, seed)),
        "cpu_ratio": statistics.median(cpu_ratios),
        "cpu_ratio_ci95": list(bootstrap_median(cpu_ratios, seed)),
        "lookup_ms": 1000 * statistics.median(lookups),
        "ratios": ratios,
    }


def bootstrap_median(values: Sequence[float], seed: int, draws: int = 2000) -> tuple[float, float]:
    """Return the 95% percentile-bootstrap interval of the median."""
    generator = random.Random(seed)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws) - 1]
