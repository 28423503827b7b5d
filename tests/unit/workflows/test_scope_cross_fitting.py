"""Fitting the cross-encoder on a tiny transformer: it learns, is deterministic, survives a kill."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memedit.errors import InputError
from memedit.scope.classifier import load_model
from memedit.scope.classifier.cross_encoder import REACH, CrossEncoder
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.workflows.scope_training.cross_fitting import CrossSettings, fit_cross_encoder
from memedit.workflows.scope_training.examples import SimulatedMemory
from memedit.workflows.scope_training.judging import SecondLook, judge_rows
from memedit.workflows.scope_training.network import Head, HeadSize
from memedit.workflows.scope_training.same_relation import RelationPair
from memedit.workflows.scope_training.texts import EncodedTexts
from memedit.workflows.train_scope import train_scope

sys.path += [str(Path(__file__).parents[1] / room) for room in ("scope", "encoders")]
from test_scope_cross_encoder import FiledWords, cross_weights
from test_train_scope import SMALL, data_file, rows  # noqa: F401 - fixtures
from tiny_encoder import save_tiny_encoder

SETTINGS = CrossSettings(steps=8, batch=8, ramp=2, learning_rate=5e-3, checkpoint_every=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny"))


def pair(query, text, right):
    return RelationPair("towns/paraphrase", 0.0, np.zeros(3, np.float32), right, (query, text))


PAIRS = [pair(f"{a} x", f"x {b}", a == b) for a in ("king", "river", "town") for b in ("king", "river", "town")]


def fit(folder, work, settings=SETTINGS, **changes):
    return fit_cross_encoder(folder, PAIRS, settings, **{"seed": 0, "key": "k", "work": work, **changes})


def test_it_learns_which_pairs_ask_the_same(folder, tmp_path):
    weights = fit(folder, tmp_path, replace(SETTINGS, steps=150, batch=16))
    logits = CrossEncoder(folder, weights).logits([p.texts for p in PAIRS])
    right = np.array([p.right for p in PAIRS])
    assert logits[right].min() > logits[~right].max()


class KilledError(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_weights(folder, tmp_path):
    whole = fit(folder, tmp_path / "whole")

    def stop(done, total):
        if done == 7:
            raise KilledError

    with pytest.raises(KilledError):
        fit(folder, tmp_path / "cut", progress=stop)
    seen = []
    resumed = fit(folder, tmp_path / "cut", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(7, 8), (8, 8)]
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(InputError, match="other settings"):
        fit(folder, tmp_path / "cut", key="another")


def test_training_gives_a_scope_that_looks_again(folder, data_file, tmp_path):  # noqa: F811 - the fixture
    settings = replace(SMALL, cross=SETTINGS)
    train_scope([data_file], tmp_path / "one", encoder=FiledWords(folder), settings=settings)
    one = load_model(tmp_path / "one")
    assert one.cross is not None
    assert one.notes["cross"]["pairs"] > 0
    fewer = replace(settings, cross=replace(SETTINGS, steps=2))  # fitted anew it would be another one
    again = {"encoder": FiledWords(folder), "settings": fewer, "head": tmp_path / "one"}
    for networks in (False, True):
        train_scope([data_file], tmp_path / "kept", **again, networks=networks, cross=False)
        kept = load_model(tmp_path / "kept")
        assert all(np.array_equal(one.cross[name], kept.cross[name]) for name in one.cross)
    train_scope([data_file], tmp_path / "anew", **again, networks=False)
    anew = load_model(tmp_path / "anew")
    assert all(np.array_equal(one.head[name], anew.head[name]) for name in one.head if name != "relation.out.bias")
    assert anew.cross.keys() == one.cross.keys()
    assert not all(np.array_equal(one.cross[name], anew.cross[name]) for name in one.cross)


def test_without_files_of_the_encoder_there_is_none(data_file, tmp_path):  # noqa: F811 - the fixture
    from scope_bench import HashedWords

    train_scope([data_file], tmp_path, encoder=HashedWords(), settings=SMALL)
    assert load_model(tmp_path).cross is None


def test_outcomes_are_those_after_the_second_look(folder, rows, tmp_path):  # noqa: F811 - the fixture
    encoder, rarity = FiledWords(folder), WordRarity({"the": 9}, 10)
    directions, texts = np.eye(encoder.dimension, 16, dtype=np.float32), EncodedTexts(rarity)
    needed = [text for row in rows for text in (row.prompt, *(text for _, text in (*row.inside, *row.outside)))]
    texts.add(encoder, directions, needed, tmp_path)
    torch.manual_seed(0)
    head = Head(HeadSize(projection=16, width=8, hidden=12)).eval().arrays()
    memory = SimulatedMemory(rows, texts, rarity)
    sure = CrossEncoder(folder, cross_weights() | {"out.bias": np.full(1, 50.0, np.float16)})
    numbers = range(len(rows))
    plain = judge_rows(head, memory, rows, numbers)
    again = judge_rows(head, memory, rows, numbers, SecondLook(sure, 0.0))
    asked = [n for n, outcome in enumerate(plain) if outcome.kind == "paraphrase" and outcome.standing.right]
    assert asked
    for n in asked:
        assert abs(plain[n].standing.logit) < REACH, "not a close call: choose other weights"
        assert again[n].standing.logit == pytest.approx(plain[n].standing.logit + REACH, abs=1e-4)
    assert [o.absent for o in again] == [o.absent for o in plain]  # of names that do not stand there it is not asked
