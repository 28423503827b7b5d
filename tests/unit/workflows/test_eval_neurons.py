"""Neuron memory, GRACE, WISE and MEMOIR in both forms, and trained ensembles as methods of an evaluation."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memedit.consolidation.trainers import kne
from memedit.evaluation.datasets import name_files
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.settings import EvalSettings
from memedit.workflows.evaluate import EvaluationConfig, evaluate
from support.evaluation_cases import counterfact_rows, run_on_tiny_model, write_rows

pytestmark = pytest.mark.slow

METHODS = (
    "neurons", "grace", "grace:published", "wise", "wise:published", "memoir", "memoir:published", "weights:kne",
    "weights:kne_random",
)  # fmt: skip


def test_every_form_is_prepared_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_on_tiny_model(monkeypatch)
    quick = replace(kne.KNE.settings, share=0.1, steps=2, batch=2)
    monkeypatch.setattr(kne, "KNE", kne.Kne(quick))
    monkeypatch.setattr(kne, "KNE_RANDOM", kne.Kne(replace(quick, locate="random"), "kne_random"))
    data = write_rows(tmp_path / "facts.jsonl", counterfact_rows())
    config = EvaluationConfig(
        data=tuple(name_files([data], [])),
        methods=METHODS,
        model="tiny",
        scope="subject",
        protocols=(Protocol.GENERATE,),
        baselines=False,
        settings=EvalSettings(batch_size=4, fluency_queries=0),
    )
    evaluate(config, tmp_path / "out", use_cache=False)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    found = {row["method"]: row["metrics"] for row in rows}
    assert set(METHODS) <= set(found)
    assert all("reliability" in metrics for metrics in found.values())
    for name in ("neurons", "grace", "wise", "memoir"):
        assert found[name]["locality"]["value"] == found["base"]["locality"]["value"], "the scope was silent"
    assert found["grace"]["reliability"]["n"] == found["neurons"]["reliability"]["n"] > 3
