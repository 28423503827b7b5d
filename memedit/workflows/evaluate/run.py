"""Evaluating methods side by side: the same model, data, protocol and batches for each."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from memedit.errors import InputError
from memedit.evaluation.cache import OutputCache, default_cache_path
from memedit.evaluation.cases import Case
from memedit.evaluation.datasets import DataFile, file_sha256, read_cases
from memedit.evaluation.journal import Journal
from memedit.evaluation.outcome import Outcome, rows_json
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.report.evaluation_page import report_page
from memedit.evaluation.results import TIMING_METRICS, results_json, write_json
from memedit.evaluation.rows.leak import forgetting
from memedit.evaluation.runner import Clock, ProgressCallback
from memedit.whole_files import write_text
from memedit.workflows.evaluate.config import EvaluationConfig
from memedit.workflows.evaluate.methods import Method, parse_methods
from memedit.workflows.evaluate.rows import methods_needed
from memedit.workflows.evaluate.runs import Extras, StageRuns, expected_cost
from memedit.workflows.evaluate.stage import Stage, Workbench
from memedit.workflows.evaluate.weights import job_description, job_fingerprint

_LIBRARIES = ("memedit", "torch", "transformers", "tokenizers", "numpy", "peft", "sentence-transformers", "faiss-cpu")


def evaluate(
    config: EvaluationConfig,
    out: Path,
    *,
    progress: ProgressCallback | None = None,
    cache: Path | None = None,
    use_cache: bool = True,
) -> Outcome:
    """Run an evaluation, or the rest of one that was killed, and write its report into ``out``.

    Written are ``results.json`` and ``manifest.json`` (their form is in docs/evaluation.md), ``comparisons.json``,
    ``report.html``, and a journal from which the same call goes on after a kill. The same configuration in the same
    folder answers from the journal at once.

    Args:
        config: what to evaluate.
        out: folder of the report; made when absent.
        progress: called after every batch.
        cache: file of base outputs; None is the user's own.
        use_cache: whether base outputs are taken from and put into the cache.

    Raises:
        DatasetError: a data file is wrong; names file, line and field.
        UnknownNameError: an unknown method, format, model, scope or encoder.
        InputError: nothing is left to ask, or a number is out of its range.
    """
    started = time.time()
    named = (*config.methods, *(() if config.baselines else methods_needed(config.rows)))
    methods = parse_methods(named, scope=config.scope, baselines=config.baselines)
    _check(config, methods)
    streams = {
        (data, n): list(read_cases(data.path, data.format, limit=n)) for data in config.data for n in config.edits
    }
    if config.forget:
        streams = {key: forgetting(cases) for key, cases in streams.items()}
    extras = Extras.read(config.perplexity, config.capability, config.harness, config.settings)
    bench = _workbench(config)
    manifest = build_manifest(config, methods, bench, {d: streams[d, config.edits[-1]] for d in config.data})
    key = _digest(manifest)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(out / f"journal-{key[:12]}.jsonl", key))
        known = stack.enter_context(_cache(bench, config, cache)) if use_cache else None
        cost = sum(expected_cost(cases, methods, config) for cases in streams.values())
        clock = Clock(cost, progress)
        outcome_parts = []
        for (data, _), cases in streams.items():
            stage = Stage(data, cases, config.stream, bench, journal, progress=progress)
            stack.callback(stage.close)
            runs = StageRuns(stage, bench, methods, config, extras, journal, clock, known)
            outcome_parts.append(runs.run())
            stage.close()
    timings = {"started_at": started, "seconds": round(time.time() - started, 3), "machine": _machine()}
    outcome = Outcome(
        runs=tuple(run for part in outcome_parts for run in part.runs),
        manifest=manifest,
        edits={key: text for part in outcome_parts for key, text in part.edit_texts.items()},
        seed=config.settings.seed,
    )
    _write(outcome, timings, out)
    return outcome


def _check(config: EvaluationConfig, methods: Sequence[Method]) -> None:
    if not config.data:
        raise InputError("no data file is given; name at least one with --data")
    if not config.protocols:
        raise InputError("no protocol is given; choose generate, teacher_forced, or both")
    if config.rows and Protocol.GENERATE not in config.protocols:
        raise InputError("rows go by generated answers: add the protocol generate")
    if config.queries is not None and config.queries < 1:
        raise InputError(f"number of queries must be at least 1, got {config.queries}")
    if not config.edits:
        raise InputError("no number of edits is given")
    if unused := sorted(config.trained.keys() - {str(method.adapter) for method in methods}):
        raise InputError(f"weights are given for {', '.join(unused)}, which no method uses as its adapter")


def _workbench(config: EvaluationConfig) -> Workbench:
    from memedit.encoders import load_encoder
    from memedit.models import load_model

    loaded, encoder = load_model(config.model, dtype=config.dtype), load_encoder(config.encoder)
    return Workbench(loaded, encoder, config.threshold, config.consolidation, config.trained)


def build_manifest(
    config: EvaluationConfig, methods: Sequence[Method], bench: Workbench, streams: dict[DataFile, list[Case]]
) -> dict[str, Any]:
    """Return everything the results depend on: configuration, versions, seeds, fingerprints. No paths, no times."""
    return {
        "model": config.model,
        "dtype": config.dtype,
        "device": bench.loaded.model.device.type,
        "methods": {m.name: {"adapter": m.adapter, "scope": m.scope, "weights": m.weights} for m in methods},
        "protocols": [str(protocol) for protocol in config.protocols],
        "rows": list(config.rows),
        "forget": config.forget,
        "stream": str(config.stream),
        "edits": list(config.edits),
        "queries": config.queries,
        "held_out": config.held_out,
        "scope": config.scope,
        "threshold": config.threshold,
        "encoder": config.encoder,
        "settings": config.settings.as_json(),
        "consolidation": _consolidation(config, methods),
        "seed": config.settings.seed,
        "data": [
            {
                "name": d.name,
                "file": d.path.name,
                "format": d.format,
                "sha256": file_sha256(d.path),
                "cases": len(cases),
            }
            for d, cases in streams.items()
        ],
        "perplexity": _described(config.perplexity),
        "capability": _described(config.capability),
        "harness": None if config.harness is None else config.harness.as_json(),
        "fingerprints": {
            "model": bench.loaded.fingerprint,
            "encoder": bench.encoder.fingerprint,
            **{f"method {method.name}": bench.fingerprint(method) for method in methods},
        },
        "versions": {name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "timing_metrics": list(TIMING_METRICS),
    }


def _consolidation(config: EvaluationConfig, methods: Sequence[Method]) -> Any:
    """Return how edits become weights, where a method does that."""
    if all(method.weights is None for method in methods):
        return None
    return {"fingerprint": job_fingerprint(config.consolidation), **job_description(config.consolidation)}


def _described(path: Path | None) -> Any:
    if path is None:
        return None
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    return [{"file": file.name, "sha256": file_sha256(file)} for file in files]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _cache(bench: Workbench, config: EvaluationConfig, path: Path | None) -> OutputCache:
    scenery = {
        "model": bench.loaded.fingerprint,
        "dtype": config.dtype,
        "device": bench.loaded.model.device.type,
        "stop": "first newline behind visible text, or end of sequence",
        "decoding": "greedy",
        **{name: _version(name) for name in ("torch", "transformers", "tokenizers")},
    }
    return OutputCache(default_cache_path() if path is None else path, scenery)


def _machine() -> dict[str, Any]:
    import torch

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _write(outcome: Outcome, timings: dict[str, Any], out: Path) -> None:
    write_json(out / "results.json", results_json(outcome.rows))
    write_json(out / "comparisons.json", {"comparisons": [c.as_json() for c in outcome.comparisons()]})
    write_text(out / "report.html", report_page(outcome))
    if any(run.findings for run in outcome.runs):
        write_json(out / "rows.json", rows_json(outcome))
    write_json(out / "manifest.json", {**outcome.manifest, "timings": timings})
