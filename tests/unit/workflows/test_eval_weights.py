"""Methods that write weights, in an evaluation: edits take hold, and the base is as it was for everyone else."""

import json
from pathlib import Path
from typing import Any

import pytest

from memedit.consolidation import ConsolidationSettings
from memedit.evaluation.datasets import name_files
from memedit.evaluation.runner import Progress
from memedit.evaluation.settings import EvalSettings
from memedit.workflows.consolidate.settings import Check, JobSettings
from memedit.workflows.evaluate import EvaluationConfig, evaluate
from memedit.workflows.evaluate import run as workflow
from memedit.workflows.evaluate.stage import Workbench
from support.hashing_encoder import HashingEncoder
from support.taught_model import SUBJECTS, answer_of, other_than, prompt_of, taught_model

pytestmark = pytest.mark.slow

GENTLE = ConsolidationSettings(
    layers=(0, 1), steps=2, contexts=1, l2=1e9, null_space_threshold=1e9, sensitivity_tokens=64
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Edits of which the taught model answers all but the last as they want it."""
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for subject in SUBJECTS[:5]:
            target = answer_of(subject) if subject != SUBJECTS[4] else other_than(subject)
            row = {
                "prompt": prompt_of(subject), "target_new": target, "subject": subject, "ground_truth": "Z",
                "rephrase_prompt": prompt_of(subject), "locality_prompt": prompt_of("p"), "locality_ground_truth": "H",
            }  # fmt: skip
            out.write(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize("method", ["weights:memit", "hybrid"])
def test_weights_are_there_for_their_method_only(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    loaded = taught_model()
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))

    def bench(config: Any) -> Workbench:
        return Workbench(loaded, HashingEncoder(64), config.threshold, config.consolidation)

    monkeypatch.setattr(workflow, "_workbench", bench)
    config = EvaluationConfig(
        data=tuple(name_files([rows], ["counterfact"])),
        methods=(method,),
        model="taught",
        scope="subject",
        consolidation=JobSettings(solver=GENTLE, statistics_tokens=600, check=Check.EXACT, rounds=1, wordings=0),
        settings=EvalSettings(fluency_queries=0, batch_size=8),
    )
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    told: list[Progress] = []
    outcome = evaluate(config, tmp_path / "out", use_cache=False, progress=told.append)
    of_weights = [progress for progress in told if not progress.whole]
    what = list(dict.fromkeys(progress.unit.rpartition("/")[2] for progress in of_weights))
    assert what[:2] == ["key statistics", "keys and targets"]
    assert what[2:] == (["solving and checking"] if method == "hybrid" else [])
    assert (of_weights[-1].done, of_weights[-1].total) == (5, 5)
    assert any(progress.eta_seconds is not None for progress in of_weights)
    assert all(tensor.equal(before[name]) for name, tensor in loaded.model.state_dict().items())
    by_method = {row.method: row.metrics for row in outcome.rows}
    assert by_method["base"]["reliability"].value == pytest.approx(80.0)
    assert by_method[method]["locality"].value == 100.0
    assert outcome.manifest["consolidation"]["check"] == "exact"
    if method == "hybrid":
        assert by_method[method]["served_by_weights"].value == pytest.approx(80.0)
        assert by_method[method]["routing_recall"].value == pytest.approx(20.0), "only the fifth is the memory's"
    else:
        assert by_method[method]["reliability"].value == pytest.approx(80.0)
        assert "routing_recall" not in by_method[method]
    again = evaluate(config, tmp_path / "out", use_cache=False)
    assert [r.as_json() for r in again.rows if r.method == method] != []
