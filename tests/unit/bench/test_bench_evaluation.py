"""The evaluation's benchmark runs, on a tiny model, and compares like with like."""

from pathlib import Path

import pytest

from memedit.bench import evaluation as bench_evaluation
from memedit.errors import InputError
from memedit.evaluation.datasets import name_files
from memedit.workflows.evaluate.methods import PLAIN
from memedit.workflows.evaluate.stage import Workbench
from support.evaluation_cases import counterfact_rows, tiny_loaded, write_rows
from support.hashing_encoder import HashingEncoder

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def tiny_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_loaded()
    monkeypatch.setattr("memedit.models.load_model", lambda name, **_: loaded)
    monkeypatch.setattr("memedit.encoders.load_encoder", lambda name: HashingEncoder())


@pytest.mark.parametrize(("method", "sets"), [(None, 1), ("in_context:plain", 2)])
def test_the_reference_runs_every_row_the_evaluation_runs(tmp_path: Path, method: str | None, sets: int) -> None:
    data = name_files([write_rows(tmp_path / "facts.jsonl", counterfact_rows())], [])[0]
    found = bench_evaluation.run(data, method=method, scope="subject", batch_size=4)
    cases_in_force = found["rows"] / sets / 3
    assert 1 <= cases_in_force <= 6
    assert found["methods"] == ["base", "in_context:plain"][:sets]
    assert found["ratio"] > 0.5
    assert found["evaluation_s"] > 0 < found["bare_s"]


def test_methods_beyond_the_prompt_have_no_bare_reference(tmp_path: Path) -> None:
    data = name_files([write_rows(tmp_path / "facts.jsonl", counterfact_rows())], [])[0]
    with pytest.raises(InputError, match="no bare generate"):
        bench_evaluation.run(data, method="reader")


def test_the_plain_form_leaves_decoding_to_the_model() -> None:
    bench = Workbench(tiny_loaded(), HashingEncoder())
    assert bench.adapter(PLAIN).target_weight == 0.0 < bench.adapter("in_context").target_weight
