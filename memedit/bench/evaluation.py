"""What the evaluation costs beside the bare ``generate`` of the same prompts in the same batches, in the same run."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from memedit.encoders.base import Progress
from memedit.errors import InputError
from memedit.evaluation.datasets import DataFile, read_cases
from memedit.evaluation.journal import Journal
from memedit.evaluation.requests import plan_generate
from memedit.evaluation.runner import Clock, batches_of
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import Queries, StreamOrder, sample_queries
from memedit.types import Edit
from memedit.workflows.answerers import EditedAnswerer, generation_arguments, pieces
from memedit.workflows.evaluate import EvaluationConfig
from memedit.workflows.evaluate.methods import PLAIN, Method, parse_methods
from memedit.workflows.evaluate.runs import Extras, StageRuns
from memedit.workflows.evaluate.stage import Stage, Workbench

Batches = list[tuple[list[str], int]]


def run(
    data: DataFile,
    *,
    cases: int = 1000,
    method: str | None = PLAIN,
    model: str = "smollm2",
    scope: str = "default",
    encoder: str = "minilm",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time the evaluation of the base and of one method, and the bare model on what both of them feed it.

    The evaluation's time is everything after models, edits and queries are ready: planning, routing, generation, the
    journal, scoring with intervals. The reference runs ``generate`` with the same arguments on the same batches: the
    prompts as they are for the base, with the edits that fire in them for the method.

    Args:
        data: a data file.
        cases: so many cases are stored and asked about.
        method: in_context:plain, rag or oracle, whose prompts the bare model can be given; None times the base.
        model: alias, path or hub id.
        scope: scope of the method.
        encoder: sentence encoder.
        batch_size: rows in one batch.
        progress: called with (done, total) of the four timed pieces.

    Returns:
        A JSON-able dict: ``evaluation_s``, ``bare_s`` and their ``ratio`` (wall clock), ``cpu_ratio`` (processor time,
        which other programs on the machine disturb less), and what was run.

    Raises:
        InputError: the method needs more of the model than its prompt.
    """
    from memedit.encoders import load_encoder
    from memedit.models import load_model

    report = progress or (lambda done, total: None)
    found = list(read_cases(data.path, data.format, limit=cases))
    settings = EvalSettings(batch_size=batch_size, fluency_queries=0)
    methods = _methods(method, scope)
    config = EvaluationConfig((data,), tuple(m.name for m in methods), model=model, scope=scope, settings=settings)
    bench = Workbench(load_model(model), load_encoder(encoder))
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal", "bench") as journal:
        stage = Stage(data, found, StreamOrder(), bench, journal)
        queries = sample_queries(found, stage.state)
        for each in methods:
            bench.fingerprint(each)
            stage.answerer(each, queries)
        report(1, 4)
        _warm_up(bench)
        started = _clocks()
        runs = StageRuns(stage, bench, methods, config, Extras(None, {}), journal, Clock(1), None)
        rows = runs.run().runs
        evaluation = _since(started)
        report(2, 4)
        fed = [batch for each in methods for batch in _fed(each, stage, queries, bench, settings)]
        report(3, 4)
        started = _clocks()
        for prompts, limit in fed:
            _bare(bench, prompts, limit)
        bare = _since(started)
        stage.close()
    report(4, 4)
    return {
        "ratio": round(evaluation[0] / bare[0], 4),
        "cpu_ratio": round(evaluation[1] / bare[1], 4),
        "evaluation_s": round(evaluation[0], 3),
        "bare_s": round(bare[0], 3),
        "cases": len(found),
        "rows": sum(len(prompts) for prompts, _ in fed),
        "methods": [row.row.method for row in rows],
        "model": model,
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
    }


def _methods(method: str | None, scope: str) -> list[Method]:
    known = {m.name: m for m in parse_methods([method or "base"], scope=scope)}
    chosen = [known["base"]] if method in (None, "base") else [known["base"], known[str(method)]]
    if any(m.adapter not in (None, PLAIN) for m in chosen):
        raise InputError(
            f"method {method!r} changes more than the prompt; there is no bare generate to compare it with"
        )
    return chosen


def _fed(method: Method, stage: Stage, queries: Queries, bench: Workbench, settings: EvalSettings) -> Batches:
    """Return the texts that a method feeds the model, batch by batch, as the evaluation composed them."""
    plan = plan_generate(queries.probes, bench.base, settings)
    lengths = bench.base.count_tokens([request.prompt for request in plan.requests])
    answerer = stage.answerer(method, queries)
    fed: Batches = []
    for places in batches_of(plan.requests, lengths, settings.batch_size):
        prompts = [plan.requests[i].prompt for i in places]
        limit = plan.requests[places[0]].max_new_tokens
        fed += [(texts, limit) for texts in _texts(answerer, prompts)]
    return fed


def _texts(answerer: Any, prompts: list[str]) -> list[list[str]]:
    """Return the rows piece by piece as they are handed to the model, edited ones with their edits in them."""
    if not isinstance(answerer, EditedAnswerer):
        return [prompts]
    editable = answerer.editable
    return [
        [
            rewritten(editable, prompts[i], [hit.edit for hit in route.fired])
            for i, route in zip(rows, part.routes, strict=True)
        ]
        for rows, part in pieces(prompts, answerer.plan(prompts))
    ]


def rewritten(editable: Any, prompt: str, edits: Sequence[Edit]) -> str:
    """Return the text an in-context adapter puts before the model for a prompt on which ``edits`` fire."""
    from memedit.runtime.rows import prompt_row

    if not edits:
        return prompt
    row = editable.adapter.rewrite(prompt_row(editable.tokenizer, prompt), edits, {})
    return str(editable.tokenizer.decode(list(row.ids), skip_special_tokens=True))


@torch.inference_mode()
def _bare(bench: Workbench, prompts: list[str], limit: int) -> None:
    tokenizer, model = bench.loaded.tokenizer, bench.loaded.model
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
    model.generate(**batch, **generation_arguments(bench.base.end, tokenizer, limit, stop_at_newline=True))


def _warm_up(bench: Workbench) -> None:
    _bare(bench, ["The first call is slower than the others."] * 2, 4)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - started[0], time.process_time() - started[1]
