"""A small evaluation of the real small model: the base, the right edit given, and everything retrieved."""

import json
from pathlib import Path

import pytest

from memedit.evaluation.datasets import name_files
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.settings import EvalSettings
from memedit.workflows.evaluate import EvaluationConfig, evaluate

pytestmark = [pytest.mark.integration, pytest.mark.data, pytest.mark.slow]


def test_ten_edits_with_the_real_model(tmp_path: Path, data_dir: Path) -> None:
    config = EvaluationConfig(
        data=tuple(name_files([data_dir / "counterfact_train.jsonl"], ["counterfact"])),
        methods=("in_context",),
        edits=(10,),
        queries=6,
        protocols=(Protocol.GENERATE, Protocol.TEACHER_FORCED),
        settings=EvalSettings(fluency_queries=0),
    )
    outcome = evaluate(config, tmp_path / "out", use_cache=False)
    metrics = {(row.method, row.protocol): row.metrics for row in outcome.rows}
    base, oracle, rag = (metrics[name, "generate"] for name in ("base", "oracle", "rag"))
    assert base["reliability"].value <= 20
    assert oracle["reliability"].value >= 60
    assert oracle["locality"].value == base["locality"].value == 100
    # plain retrieval puts some edit into every prompt, and strangers pay for it
    assert rag["locality"].value <= 60
    assert metrics["oracle", "teacher_forced"]["efficacy"].value > metrics["base", "teacher_forced"]["efficacy"].value
    assert metrics["in_context", "generate"]["routing_recall"].value >= 80
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"][0]["model"] == "smollm2"
