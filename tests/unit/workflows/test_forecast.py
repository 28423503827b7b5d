"""What a job is said to take beside what it takes."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memedit.bench.withdrawal import run as bench_withdrawal
from memedit.consolidation import compute_artefacts, solve
from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.relay import Relay
from memedit.consolidation.site import EditSite
from memedit.consolidation.versions import VersionStore
from memedit.memory import EditMemory
from memedit.workflows.consolidate.forecast import measured_speed, solve_operations, stand_in_statistics
from memedit.workflows.consolidate.operations import forecast
from memedit.workflows.consolidate.planning import job_bytes, row_tokens
from memedit.workflows.consolidate.selecting import edit_requests
from memedit.workflows.consolidate.settings import JobSettings
from support.hashing_encoder import HashingEncoder
from support.taught_model import taught_model

pytestmark = pytest.mark.slow

EDITS = 64
SOLVER = ConsolidationSettings(layers=(0, 1), steps=3, contexts=2, damping=None, stop_loss=0.0)


@pytest.fixture(scope="module")
def memory() -> Iterator[EditMemory]:
    with EditMemory(":memory:", encoder=HashingEncoder()) as found:
        found.add_many(
            {"prompt": f"of {n:03d} is", "target": "ABCD"[n % 4], "subject": f"{n:03d}"} for n in range(EDITS)
        )
        yield found


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions")


def test_seconds_are_within_a_factor_of_two(memory: EditMemory, store: VersionStore) -> None:
    loaded = taught_model()
    settings = JobSettings(solver=SOLVER, rounds=1)
    requests = edit_requests(memory.list())
    statistics = stand_in_statistics(loaded, SOLVER)
    ratios = []
    for _ in range(4):  # other processes may take the machine's time from either
        said = forecast(memory, loaded, store, settings, sample=16)
        began = time.perf_counter()
        artefacts = compute_artefacts(loaded, requests, SOLVER)
        between = time.perf_counter()
        solve(loaded, artefacts, statistics, SOLVER, requests=requests)
        took = {"keys and targets": between - began, "solve": time.perf_counter() - between}
        ratios.append({stage: (said.seconds[stage] + 0.05) / (seconds + 0.05) for stage, seconds in took.items()})
        if all(0.5 <= ratio <= 2.0 for ratio in ratios[-1].values()):
            break
    else:
        pytest.fail(f"seconds said over seconds taken: {ratios}")
    assert (said.edits, said.sampled) == (EDITS, 16)


def test_more_edits_than_there_are(memory: EditMemory, store: VersionStore) -> None:
    loaded, settings = taught_model(), JobSettings(solver=SOLVER)
    here = forecast(memory, loaded, store, settings, sample=4)
    many = forecast(memory, loaded, store, settings, sample=4, edits=100 * EDITS)
    assert many.edits == 100 * EDITS
    assert many.peak_bytes > 20 * here.bytes["solve"]
    assert many.seconds["keys and targets"] >= here.seconds["keys and targets"]  # each is timed by itself, in tenths
    empty = EditMemory(":memory:", encoder=HashingEncoder())
    assert forecast(empty, loaded, store, settings).total_seconds == 0.0


def test_bytes_of_the_relayed_rows(memory: EditMemory) -> None:
    loaded, edits = taught_model(), memory.list()
    requests = edit_requests(edits)
    artefacts = compute_artefacts(loaded, requests, replace(SOLVER, steps=1))
    relay = Relay(loaded, requests, artefacts, EditSite.of(loaded, SOLVER), SOLVER)
    held = sum(batch.state.numel() * batch.state.element_size() for batch in relay._batches)
    relay.close()
    tokens = sum(len(request.prompt) for request in requests) / len(requests)  # one a byte
    with_relay, without = (
        job_bytes(loaded, replace(SOLVER, relay=relay), EDITS, tokens)["solve"] for relay in (True, False)
    )
    assert held / 2 <= with_relay - without <= 2 * held
    assert row_tokens(edits) >= 8


def test_operations_are_those_of_the_solve() -> None:
    loaded = taught_model()
    few, many, more = (solve_operations(loaded, SOLVER, edits) for edits in (10, 10_000, 20_000))
    assert few < many < more
    assert more / many == pytest.approx(2, rel=0.05), "far above the width it grows with the edits alone"
    assert measured_speed() > 1e6


def test_one_of_many_is_withdrawn_to_the_bit() -> None:
    torch.manual_seed(0)
    found = bench_withdrawal(taught_model(), HashingEncoder(), edits=200, settings=SOLVER)
    assert found["same_bits"]
    assert (found["edits"], found["layers"]) == (200, [0, 1])
    assert found["withdraw_s"] > 0
