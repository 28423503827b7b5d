"""Conversations: what the last turn refers to is looked up in the turns before it."""

import time

import pytest
import torch

from memedit.memory import EditMemory
from memedit.runtime import Router
from memedit.runtime.asked import Asked, asked_of
from memedit.scope import load_scope
from memedit.scope.judge.model import Calibration, JudgeModel, start_network, trained_arrays
from support.scope_bench import HashedWords
from support.tiny_encoder import save_tiny_encoder

FIRES_ON_TALKS = Calibration(
    relation=(0.0, -9.0), both=(0.0, 0.0, -9.0), named_otherwise=(0.0, 0.0, 0.0, -9.0), talk=(0.0, 0.0, 9.0)
)


@pytest.fixture
def router(tmp_path):
    encoder = HashedWords()
    encoder.folder = save_tiny_encoder(tmp_path / "encoder")
    torch.manual_seed(0)
    network, _ = start_network(encoder.folder)
    JudgeModel(encoder.fingerprint, trained_arrays(network), FIRES_ON_TALKS, 0.5, 0.1).save(tmp_path)
    scope = load_scope("classifier", encoder, weights=tmp_path)
    with EditMemory(":memory:", encoder=encoder) as memory:
        memory.add("When does the Mill Library open?", "at 9", subject="Mill Library")
        memory.add("Who leads Arn Textiles?", "Ida", subject="Arn Textiles")
        yield Router(memory, scope)


def chat(*turns):
    roles = ["user", "assistant"] * len(turns)
    return asked_of([{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)])


def fired(router, asked):
    return [hit.edit.target for hit in router.decide([asked])[0].fired]


def test_what_an_earlier_turn_names_is_judged_for_the_last_turn(router):
    talk = chat("I go to the Mill Library.", "A fine choice.", "when does it open")
    assert talk == Asked("when does it open", ("I go to the Mill Library.", "A fine choice."))
    assert fired(router, talk) == ["at 9"]
    decision = router.decide([talk])[0]
    assert decision.query == "I go to the Mill Library. || A fine choice. || when does it open"


def test_without_earlier_turns_nothing_refers(router):
    assert fired(router, "when does it open") == []
    assert fired(router, chat("I go home.", "Fine.", "when does it open")) == []


def test_a_system_prompt_names_subjects_too(router):
    talk = asked_of(
        [{"role": "system", "content": "All is about Arn Textiles."}, {"role": "user", "content": "who leads it?"}]
    )
    assert fired(router, talk) == ["Ida"]


def test_rows_of_a_batch_do_not_disturb_each_other(router):
    batch = [
        "who leads it?",
        chat("I write to Arn Textiles.", "Fine.", "who leads it?"),
        Asked(""),
        chat("I go to the Mill Library.", "Fine.", "when does it open"),
    ]
    assert [[hit.edit.target for hit in d.fired] for d in router.decide(batch)] == [[], ["Ida"], [], ["at 9"]]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": ""}],
        [{"role": "assistant", "content": "only I speak"}],
        [
            {"role": "user", "content": [{"type": "text", "text": "Mill Library"}]},
            {"role": "user", "content": "opens?"},
        ],
        [{"role": "user", "content": "x" * 100_000}, {"role": "user", "content": "\x1e\x1e"}],
    ],
)
def test_odd_talks_are_read(router, messages):
    router.decide([asked_of(messages)])


def test_a_long_talk_costs_little_more_than_a_short_one(router):
    short = chat("I go to the Mill Library.", "Fine.", "when does it open")
    long = chat(*(f"turn {n} " + "and more words " * 40 for n in range(100)), "when does it open")
    assert len(long.earlier) <= 13
    assert len(long.talk) < 13 * 2_100

    def seconds(asked):
        best = 9.0
        for _ in range(3):
            begin = time.perf_counter()
            router.decide([asked])
            best = min(best, time.perf_counter() - begin)
        return best

    assert seconds(long) < 10 * seconds(short) + 0.2
