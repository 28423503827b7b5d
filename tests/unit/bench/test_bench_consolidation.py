"""The bench of undoing: order and withdrawal on a tiny model, and that it sees a difference where there is one."""

from pathlib import Path

import pytest

from memedit.bench import consolidation as bench
from memedit.consolidation import ConsolidationSettings, build_statistics
from memedit.errors import InputError
from support.taught_model import taught_model

pytestmark = pytest.mark.slow

SETTINGS = ConsolidationSettings(layers=(0, 1), steps=5, contexts=1, null_space_threshold=1e9, sensitivity_tokens=64)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMEDIT_HOME", str(tmp_path))
    monkeypatch.setattr(bench, "load_model", lambda name: taught_model())


def test_order_does_not_matter_and_withdrawal_is_exact(tiny: None) -> None:
    found = bench.run(edits=8, settings=SETTINGS, statistics_tokens=1_000)
    assert found["edits"] == 8
    assert found["change"]["max_abs"] > 1e-3, "there is a change to undo"
    order = found["order_first_half_then_second_or_reverse"]
    assert (order["max_abs"], order["answers_changed"]) == (0.0, 0)
    for way in ("one_after_the_other_or_at_once", "withdrawn_or_never_had"):
        assert found[way]["relative_to_change"] < 1e-3
        assert found[way]["answers_changed"] == 0


def test_a_difference_is_seen_where_there_is_one(tiny: None) -> None:
    loaded, requests = taught_model(), bench._made_up(4, seed=0)
    statistics = build_statistics(loaded, SETTINGS, tokens=1_000)
    ways = bench._Ways(loaded, statistics, SETTINGS, "alphaedit", [])
    artefacts = ways.computed(requests)
    whole, half = ways.solved(artefacts), ways.solved({r.id: artefacts[r.id] for r in requests[:2]})
    apart = ways.distance(half, whole, [(1, 2), (3,)], [(1, 2), (4,)])
    assert apart["relative_to_change"] > 1e-2
    assert (apart["answers"], apart["answers_changed"]) == (2, 1)


def test_made_up_facts_are_distinct_and_run_out_with_a_message(tiny: None) -> None:
    requests = bench._made_up(200, seed=1)
    assert len({request.prompt for request in requests}) == 200
    assert all(request.subject in request.prompt for request in requests if request.subject)
    with pytest.raises(InputError, match="data file"):
        bench._made_up(1_000, seed=1)
    with pytest.raises(InputError, match="at least 2"):
        bench.run(edits=1)
