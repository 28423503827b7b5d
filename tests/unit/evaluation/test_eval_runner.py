"""Batches, the journal and the cache: nothing is computed twice, nothing depends on how often a run was killed."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memedit.errors import InputError, StoreCorruptError
from memedit.evaluation.answering import Firing, Generation, Scoring
from memedit.evaluation.cache import OutputCache
from memedit.evaluation.journal import Journal
from memedit.evaluation.records import from_json, to_json
from memedit.evaluation.requests import GenerateRequest, ScoreRequest
from memedit.evaluation.runner import Clock, Progress, batches_of, serve
from support.evaluation_cases import CountingAnswerer

PROMPTS = [f"{'word ' * (i % 7)}number {i}" for i in range(30)]
REQUESTS = [GenerateRequest(prompt, 4 + 4 * (i % 2)) for i, prompt in enumerate(PROMPTS)]
SCENERY = {"model": "tiny"}


def run(answerer: CountingAnswerer, journal: Journal, cache: OutputCache | None = None, size: int = 4):
    return serve("unit", REQUESTS, answerer, batch_size=size, journal=journal, clock=Clock(1), cache=cache)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=80), st.integers(1, 9))
def test_batches_hold_each_request_once_with_one_limit_longest_first(shape: list, size: int) -> None:
    requests = [GenerateRequest("x" * length, limit) for limit, length in shape]
    lengths = [length for _, length in shape]
    batches = batches_of(requests, lengths, size)
    assert sorted(i for batch in batches for i in batch) == list(range(len(requests)))
    for batch in batches:
        assert len(batch) <= size
        assert len({requests[i].max_new_tokens for i in batch}) == 1
        assert [lengths[i] for i in batch] == sorted((lengths[i] for i in batch), reverse=True)
    limits = [requests[batch[0]].max_new_tokens for batch in batches]
    assert limits == sorted(limits, reverse=True)


def test_results_come_back_in_request_order(tmp_path: Path, tiny_answerer: CountingAnswerer) -> None:
    with Journal(tmp_path / "j", "k") as journal:
        served = run(tiny_answerer, journal)
    alone = [
        tiny_answerer.generate([r.prompt], max_new_tokens=r.max_new_tokens, stop_at_newline=True)[0] for r in REQUESTS
    ]
    assert list(served.results) == alone
    assert sum(rows for rows, _, _ in served.batches) == len(REQUESTS)
    assert sum(tokens for _, tokens, _ in served.batches) == sum(len(r.token_ids) for r in alone)


class _SlowToStart(CountingAnswerer):
    """Takes a while to be made ready, once."""

    ready = 0

    def prepare(self) -> None:
        time.sleep(0.0 if self.ready else 1.0)
        self.ready += 1


def test_what_it_takes_to_get_ready_is_not_counted_as_answering(tmp_path: Path) -> None:
    answerer = _SlowToStart()
    with Journal(tmp_path / "j", "k") as journal:
        served = run(answerer, journal)
    assert answerer.ready >= 1
    assert max(seconds for _, _, seconds in served.batches) < 1.0
    with Journal(tmp_path / "j", "k") as journal:
        known = _SlowToStart()
        run(known, journal)
    assert known.ready == 0


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = CountingAnswerer()
    with Journal(tmp_path / "whole", "k") as journal:
        wanted = run(whole, journal)
    first, second = CountingAnswerer(), CountingAnswerer()
    first.fail_after = 3
    with Journal(tmp_path / "killed", "k") as journal, pytest.raises(KeyboardInterrupt):
        run(first, journal)
    with (tmp_path / "killed").open("ab") as torn:
        torn.write(b'{"unit":"unit","batch":3,"sec')  # what a kill in the middle of a write leaves
    with Journal(tmp_path / "killed", "k") as journal:
        resumed = run(second, journal)
    assert resumed.results == wanted.results
    assert first.batches + second.batches == whole.batches
    with Journal(tmp_path / "killed", "k") as journal:
        third = CountingAnswerer()
        assert run(third, journal).results == wanted.results
        assert third.batches == []


def test_a_journal_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, "k") as journal:
        journal.add_fact("speed", [1.5])
        journal.add_fact("more", 1)
    with pytest.raises(InputError, match="another run"):
        Journal(path, "other")
    with Journal(path, "k") as journal:
        assert journal.fact("speed") == [1.5]
        assert journal.fact("absent") is None
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{nonsense\n" + lines[2])
    with pytest.raises(InputError, match="line 2: damaged"):
        Journal(path, "k")


def test_known_outputs_are_not_computed_again(tmp_path: Path) -> None:
    first, second, third = CountingAnswerer(), CountingAnswerer(), CountingAnswerer()
    with OutputCache(tmp_path / "c.sqlite", SCENERY) as cache:
        with Journal(tmp_path / "a", "a") as journal:
            wanted = run(first, journal, cache)
        with Journal(tmp_path / "b", "b") as journal:
            again = run(second, journal, cache)
    assert again.results == wanted.results
    assert second.batches == []
    # the seconds are those of the first time, so that speeds can still be told
    assert sum(s for *_, s in again.batches) == pytest.approx(sum(s for *_, s in wanted.batches))
    with OutputCache(tmp_path / "c.sqlite", {"model": "another"}) as cache, Journal(tmp_path / "c", "c") as journal:
        assert run(third, journal, cache).results == wanted.results
    assert third.batches == first.batches


@pytest.mark.parametrize(
    "other",
    [
        GenerateRequest("a", 9),
        GenerateRequest("b", 8),
        GenerateRequest("a", 8, stop_at_newline=False),
        ScoreRequest("a", " 8"),
    ],
)
def test_the_cache_tells_requests_apart(other: GenerateRequest | ScoreRequest) -> None:
    with OutputCache(":memory:", SCENERY) as cache:
        cache.put([GenerateRequest("a", 8)], [Generation("x", (1,))], 0.5)
        assert cache.get([GenerateRequest("a", 8)]) == [(Generation("x", (1,)), 0.5)]
        assert cache.get([other]) == [None]


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StoreCorruptError, match=r"c\.sqlite is not a cache"):
        OutputCache(path, SCENERY)


@given(
    st.text(),
    st.lists(st.integers(0, 10**6)),
    st.lists(st.tuples(st.integers(0, 99), st.floats(0, 1))),
    st.lists(st.floats(-1e4, 0)),
)
def test_results_survive_json(text: str, ids: list, firings: list, logprobs: list) -> None:
    fired = tuple(Firing(edit, score) for edit, score in firings)
    scoring = Scoring(tuple(logprobs), tuple(x > -1 for x in logprobs), tuple(range(len(logprobs))), fired, fired)
    for result in (Generation(text, tuple(ids), fired, fired[:1]), scoring):
        assert from_json(json.loads(json.dumps(to_json(result)))) == result
    with pytest.raises(InputError):
        from_json({"text": "x"})


def test_the_clock_counts_only_measured_work(tmp_path: Path) -> None:
    seen: list[Progress] = []
    clock = Clock(100, seen.append)
    clock.tick("u", 1, 4, cost=25, seconds=None)
    clock.tick("u", 2, 4, cost=25, seconds=10)
    clock.tick("u", 4, 4, cost=70, seconds=28)
    assert [p.eta_seconds for p in seen] == [None, pytest.approx(20), 0]
