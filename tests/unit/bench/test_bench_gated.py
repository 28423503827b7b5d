"""The bench of gated versions, on a tiny model that was taught facts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from memedit.bench.gated import run
from memedit.consolidation import ConsolidationSettings
from memedit.consolidation.verdicts import GateLimits, Limits
from memedit.errors import InputError
from memedit.evaluation.datasets import name_files
from memedit.memory import EditMemory
from memedit.workflows import consolidate
from memedit.workflows.consolidate.settings import Check, JobSettings
from support.hashing_encoder import HashingEncoder
from support.taught_model import answer_of, other_than, prompt_of, taught_model

pytestmark = pytest.mark.slow

WIDE = Limits(60.0, 95.0)
SETTINGS = JobSettings(
    solver=ConsolidationSettings(
        layers=(0, 1), steps=2, contexts=1, l2=1e9, null_space_threshold=1e9, sensitivity_tokens=64
    ),
    limits=GateLimits(efficacy=Limits(10.0, 1.0), capability=WIDE, specificity=WIDE, perplexity=WIDE),
    check=Check.EXACT,
    rounds=1,
    wordings=0,
    statistics_tokens=600,
    perplexity_tokens=16,
    specificity_probes=8,
)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EditMemory]:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path / "home"))
    with EditMemory(tmp_path / "edits.db", encoder=HashingEncoder(64)) as found:
        yield found


def test_each_row_goes_to_whom_it_should(memory: EditMemory, tmp_path: Path) -> None:
    loaded, rows = taught_model(), []
    for subject in "abc":  # the model answers all but the last
        target = answer_of(subject) if subject != "c" else other_than(subject)
        memory.add(prompt_of(subject), target, subject=subject)
        rows.append(
            {
                "prompt": prompt_of(subject), "target_new": target, "subject": subject, "ground_truth": "Z",
                "rephrase_prompt": f"say: {prompt_of(subject)}", "locality_prompt": prompt_of("p"),
                "locality_ground_truth": "H",
            }
        )  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data, store = name_files([tmp_path / "rows.jsonl"], ["counterfact"])[0], consolidate.version_store(memory)
    with pytest.raises(InputError, match="no version was published"):
        run(memory, loaded, store, data, scope="subject", adapter="in_context")
    result = consolidate.run(memory, loaded, store, SETTINGS)
    assert result.published, result.message
    found = run(memory, loaded, store, data, pairs=2, scope="subject", adapter="in_context")
    assert (found["edits"], found["in_weights"], found["in_any_wording"]) == (3, 2, 0)
    shares = {kind: share.value for kind, share in found["served_by_weights"].items()}
    assert shares == {"edit": pytest.approx(200 / 3), "paraphrase": 0.0, "locality": 0.0}
    systems = found["systems"]
    assert set(systems) == {"memory only", "weights only", "hybrid, gated"}
    assert systems["hybrid, gated"]["locality"].value == systems["memory only"]["locality"].value == 100.0
    assert systems["hybrid, gated"]["generality"] == systems["memory only"]["generality"]
    assert systems["weights only"]["reliability"].value == pytest.approx(200 / 3)
    tokens = found["first_token"]["prompt_tokens"]
    assert tokens["weights"] < tokens["memory"]
    assert (found["mixed_batch"]["rows"], found["mixed_batch"]["weight_rows"]) == (8, 1)
    assert found["first_token"]["without_lookup"]["cpu"]["ratio"] > 0
