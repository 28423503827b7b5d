"""ELDER in an evaluation: trained batch by batch, resumed where it stopped, in every form."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memedit.evaluation.datasets import name_files
from memedit.evaluation.protocols import Protocol
from memedit.evaluation.settings import EvalSettings
from memedit.evaluation.stream import StreamOrder
from memedit.memory import EditMemory
from memedit.training.elder.run import waiting_edits
from memedit.workflows.evaluate import EvaluationConfig, evaluate
from memedit.workflows.evaluate import elder as eval_elder
from memedit.workflows.evaluate.elder import TIMES, VARIANTS, ElderVariant
from support.elder_bench import BY_EDIT, BY_ROUTER, SETTINGS
from support.evaluation_cases import counterfact_rows, run_on_tiny_model, write_rows
from support.hashing_encoder import HashingEncoder

pytestmark = pytest.mark.slow

QUICK = replace(SETTINGS, shared_steps=4, steps=3)


@pytest.fixture(autouse=True)
def tiny_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on a tiny random model with small mixtures; everything else is the real thing."""
    run_on_tiny_model(monkeypatch)
    small = {
        name: ElderVariant(BY_EDIT if variant.config is None else BY_ROUTER, variant.gate, QUICK)
        for name, variant in VARIANTS.items()
    }
    for name, variant in small.items():
        monkeypatch.setitem(eval_elder.VARIANTS, name, variant)


def test_every_form_is_trained_on_the_stream_and_asked(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "facts.jsonl", counterfact_rows())
    config = EvaluationConfig(
        data=tuple(name_files([data], [])),
        methods=("elder", "elder:both", "elder:published"),
        model="tiny",
        scope="subject",
        protocols=(Protocol.GENERATE,),
        stream=StreamOrder(3),
        settings=EvalSettings(batch_size=4, fluency_queries=0),
    )
    evaluate(config, tmp_path / "out", use_cache=False)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    found = {row["method"]: row["metrics"] for row in rows}
    assert {"elder", "elder:both", "elder:published"} <= set(found)
    assert all("reliability" in metrics for metrics in found.values())
    folders = sorted((tmp_path / "out" / "elder").iterdir())
    assert len(folders) == 3
    for folder in folders:
        passes = [json.loads(line) for line in (folder / TIMES).read_text().splitlines()]
        assert [item["chunk"] for item in passes] == list(range(len(passes)))
        assert len(passes) == 2
        with EditMemory(folder / "edits.db", encoder=HashingEncoder()) as memory:
            assert sum(item["edits"] for item in passes) >= memory.count(state="active") > 3
            assert not waiting_edits(memory)
