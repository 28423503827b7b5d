"""The judge behind the scope's interface: who is judged, what is kept, what fires together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from memedit.errors import InputError
from memedit.scope import PreparesEdits, Scope, load_scope
from memedit.scope.judge.model import Calibration, JudgeModel, start_network, trained_arrays
from memedit.scope.judge.network import JudgeNetwork
from memedit.scope.talk import TURN
from support.scope_bench import HashedWords
from support.tiny_encoder import save_tiny_encoder

ALWAYS_READ = (-99.0, 99.0)


class FiledWords(HashedWords):
    """Hashed words whose files are those of a tiny transformer."""

    def __init__(self, folder):
        self.folder = folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def make_scope(folder, tmp_path):
    def make(calibration=None, **options):
        torch.manual_seed(0)
        network, _ = start_network(folder)
        encoder = FiledWords(folder)
        chosen = calibration or Calibration(clear=ALWAYS_READ)
        JudgeModel(encoder.fingerprint, trained_arrays(network), chosen, 0.5, 0.1).save(tmp_path)
        return load_scope("classifier", encoder, weights=tmp_path, **options)

    return make


@pytest.fixture
def edits(bench):
    return [
        bench.edit("The capital of Peru is", "Cusco", subject="Peru"),
        bench.edit("Who sings Blue Moon?", "Ana", subject="Blue Moon", paraphrases=("Blue Moon is sung by",)),
        bench.edit("Which year came first?", "1999"),
    ]


def decide(scope, bench, text, edits, threshold=0.0):
    query, found = bench.ask(text, edits)
    return scope.decide([query], [found], threshold=threshold)[0]


def test_follows_the_protocol_and_gives_probabilities_with_reasons(make_scope, bench, edits):
    scope = make_scope()
    assert isinstance(scope, Scope)
    assert isinstance(scope, PreparesEdits)
    decision = decide(scope, bench, "Tell me the capital of Peru and who sings Blue Moon", edits)
    assert {hit.edit.target for hit in decision.considered} == {"Cusco", "Ana"}, "nothing else is named"
    for hit in decision.considered:
        assert 0.0 < hit.score < 1.0
        assert 0.0 < hit.target_probability < 1.0
        assert {"relation", "cross", "subject"} <= set(hit.reasons)


def test_queries_and_candidates_do_not_disturb_each_other(make_scope, bench, edits):
    scope = make_scope()
    texts = ["capital of Peru?", "Some noise. Now who sings Blue Moon", "", "which year", f"Peru.{TURN}its capital?"]
    asked = [bench.ask(text, edits) for text in texts]
    together = scope.decide([q for q, _ in asked], [c for _, c in asked], threshold=0.0)
    for (query, found), whole in zip(asked, together, strict=True):
        for order in (found, found[::-1]):
            (alone,) = scope.decide([query], [order], threshold=0.0)
            assert [h.edit.id for h in alone.considered] == [h.edit.id for h in whole.considered]
            np.testing.assert_allclose(
                [h.score for h in alone.considered], [h.score for h in whole.considered], atol=1e-5
            )


def test_a_query_is_read_in_one_pass_with_the_edit_it_is_compared_to(make_scope, bench, edits, monkeypatch):
    scope = make_scope()
    scope.prepare(edits)
    passes = []
    read = JudgeNetwork.read
    monkeypatch.setattr(JudgeNetwork, "read", lambda *args, **named: passes.append(args) or read(*args, **named))
    (hit,) = decide(scope, bench, "Which town is the capital of Peru?", edits).considered
    assert "cross" in hit.reasons
    assert len(passes) == 1


@pytest.mark.parametrize("text", ["The capital of Peru is", "THE CAPITAL OF PERU IS?", "Blue Moon is sung by"])
def test_verbatim_prompts_and_paraphrases_score_one(make_scope, bench, edits, text):
    hit = decide(make_scope(), bench, text, edits).considered[0]
    assert (hit.score, hit.target_probability) == (1.0, 1.0)


def test_a_name_written_otherwise_is_read_and_another_is_not(make_scope, bench):
    scope = make_scope()
    edit = bench.edit("When does the Marrow Street library close?", "9 pm", subject="Marrow Street library")
    assert decide(scope, bench, "marow street libary closing time", [edit]).considered
    assert not decide(scope, bench, "when does the town hall close?", [edit]).considered


def test_a_talk_is_judged_for_what_earlier_turns_name(make_scope, bench, edits):
    scope = make_scope()
    decision = decide(scope, bench, TURN.join(["I go to Peru.", "Nice!", "What is the capital?"]), edits)
    assert [hit.edit.target for hit in decision.considered] == ["Cusco"]
    assert decision.considered[0].reasons["talk"] == 1.0
    assert not decide(scope, bench, TURN.join(["I go away.", "Nice!", "What is Peru's capital?"]), edits).considered


def test_of_twins_only_the_best_fires_and_other_facts_of_the_subject_fire_too(make_scope, bench):
    stored = [
        bench.edit("When does the Mill open?", "at 9", subject="Mill"),
        bench.edit("When does the Mill open?", "at 10", subject="Mill", paraphrases=("opening time of the Mill",)),
        bench.edit("Who founded it long ago, the Mill of the old town?", "Ana", subject="Mill"),
    ]
    # with these offsets every pair of texts is one question; then no pair is
    same = make_scope(Calibration(relation=(0.0, 5.0), both=(0.0, 0.0, 5.0), clear=ALWAYS_READ))
    assert len(decide(same, bench, "tell me when the Mill opens", stored, 0.5).fired) == 1
    apart = make_scope(Calibration(relation=(0.0, -5.0), both=(0.0, 0.0, 5.0), clear=ALWAYS_READ))
    assert len(decide(apart, bench, "tell me when the Mill opens", stored, 0.5).fired) == 2, (
        "the same prompt: the later"
    )


def test_clear_cases_are_not_read(make_scope, bench, edits):
    for relation, score in (((0.0, 9.0), 1.0), ((0.0, -9.0), 0.0)):
        scope = make_scope(Calibration(relation=relation, clear=(-4.0, 6.0)))
        (hit,) = decide(scope, bench, "what is the capital of Peru", edits[:1]).considered
        assert "cross" not in hit.reasons
        assert hit.score == pytest.approx(score, abs=1e-3)


BLOCK, NEAR_BLOCK = "Peru longest river is", "Peru's longest river is"
"""Nearly one text."""


@pytest.mark.parametrize("text", [NEAR_BLOCK, BLOCK.upper()])
def test_an_edit_is_silent_where_a_block_is_nearer_than_its_own_texts(make_scope, bench, text):
    scope = make_scope()
    free = bench.edit("The capital of Peru is", "Cusco", subject="Peru", paraphrases=("Peru is ruled from",))
    taught = replace(free, blocks=("What do people eat in Peru?", BLOCK))
    for threshold in (0.0, None):
        decision = scope.decide([(ask := bench.ask(text, [taught]))[0]], [ask[1]], threshold=threshold)[0]
        assert (decision.fired, [hit.score for hit in decision.considered]) == ((), [0.0])
        assert decision.considered[0].reasons["blocked"] == 1.0
    assert [hit.edit for hit in decide(scope, bench, text, [free]).fired] == [free], "vectors go by the blocks, too"
    other = bench.edit("The longest river of Peru is", "Ene", subject="Peru")
    assert [hit.edit for hit in decide(scope, bench, text, [taught, other]).fired] == [other]


def test_a_near_block_is_reported_and_not_read(make_scope, bench):
    edit = bench.edit("The capital of Peru is", "Cusco", subject="Peru", blocks=(BLOCK,))
    (hit,) = decide(make_scope(), bench, NEAR_BLOCK, [edit]).considered
    assert hit.reasons["block"] > hit.reasons["relation"]
    assert "cross" not in hit.reasons


@pytest.mark.parametrize("text", ["The capital of Peru is", "Peru is ruled from?", "Peru's is ruled from"])
def test_a_block_leaves_what_is_nearer_to_the_edit_alone(make_scope, bench, text):
    edit = bench.edit("The capital of Peru is", "Cusco", subject="Peru", paraphrases=("Peru is ruled from",))
    assert decide(make_scope(), bench, text, [replace(edit, blocks=(BLOCK,))]).fired


def test_a_block_holds_for_the_last_turn_of_a_talk(make_scope, bench):
    edit = bench.edit("The capital of Peru is", "Cusco", subject="Peru")
    talk = TURN.join(["I go to Peru.", "What was its capital before?"])
    assert decide(make_scope(), bench, talk, [edit]).fired
    assert not decide(make_scope(), bench, talk, [replace(edit, blocks=("what was its capital before",))]).fired


def test_a_block_is_no_text_by_which_two_edits_are_twins(make_scope, bench):
    asked = ("Peru capital and river",)
    capital = bench.edit("The capital of Peru is", "Cusco", subject="Peru", paraphrases=asked, blocks=(BLOCK,))
    river = bench.edit(BLOCK, "Ene", subject="Peru")
    scale, shift = make_scope()._judge.scale
    only_equal = Calibration(relation=(9.0, -9.0 * (0.99 * scale + shift)), both=(0.0, 0.0, 5.0), clear=ALWAYS_READ)
    text = "Peru's capital and river"
    assert len(decide(make_scope(only_equal), bench, text, [capital, river], 0.5).fired) == 2
    twin = replace(river, content_hash="twin", paraphrases=("The capital of Peru is",))
    assert len(decide(make_scope(only_equal), bench, text, [capital, twin], 0.5).fired) == 1


def test_prepared_vectors_of_blocks_come_back_for_the_same_blocks_alone(make_scope, bench):
    scope, fresh = make_scope(), make_scope()
    free = bench.edit("The capital of Peru is", "Cusco", subject="Peru")
    taught = replace(free, blocks=(BLOCK,))
    assert fresh.accept(scope.prepare([free])) == 1
    assert [edit.blocks for edit in fresh.missing([free, taught])] == [(BLOCK,)]
    assert fresh.accept(scope.prepare([taught])) == 1
    assert not fresh.missing([free, taught])
    assert not decide(fresh, bench, NEAR_BLOCK, [taught]).fired
    assert decide(fresh, bench, NEAR_BLOCK, [free]).fired


def test_prepared_vectors_come_back_and_damaged_ones_are_left_out(make_scope, bench, edits):
    scope, fresh = make_scope(), make_scope()
    blobs = dict(scope.prepare(edits))
    assert all(len(blob) < 4_000 for blob in blobs.values())
    damaged = {**blobs, edits[0].id: b"\xff\x00\x01", edits[1].id: blobs[edits[1].id][:-3]}
    assert fresh.accept(damaged) == 1
    assert [edit.id for edit in fresh.missing(edits)] == [edits[0].id, edits[1].id]
    assert fresh.accept(blobs) == 3
    assert not fresh.missing(edits)
    text = "tell me the capital of Peru"
    assert decide(fresh, bench, text, edits).considered[0].score == pytest.approx(
        decide(scope, bench, text, edits).considered[0].score, abs=1e-3
    )


@pytest.mark.parametrize(
    "text", ["", " ", "?!", "日本の首都はどこですか", "x" * 5000, "word " * 900, "\ud800 a", "\x00"]
)
def test_any_text_gets_finite_scores(make_scope, bench, edits, text):
    scope = make_scope()
    strange = bench.edit(text, "日本", subject=text[:10] or None)
    for asked in (text, "What is the capital of Peru, tell me", f"{text}{TURN}{text}"):
        decision = decide(scope, bench, asked, [*edits, strange])
        assert all(np.isfinite(hit.score) for hit in decision.considered)


def test_an_encoder_without_files_is_refused(bench):
    with pytest.raises(InputError, match="files of its own"):
        load_scope("classifier", bench.encoder)


def test_a_name_in_another_script_is_read_where_the_encoder_knows_it(make_scope, bench, edits):
    asked = "столица Перу"
    assert not decide(make_scope(), bench, asked, edits).considered
    scope = make_scope(Calibration(clear=ALWAYS_READ, abroad=(0.0, 0.0, 2.0)))
    considered = decide(scope, bench, asked, edits).considered
    assert {hit.edit.subject for hit in considered} == {"Peru", "Blue Moon"}
    assert all(hit.score == pytest.approx(0.8808, abs=1e-3) and "cross" in hit.reasons for hit in considered)
    assert all(hit.edit.subject != "Peru" for hit in decide(scope, bench, "Blue Moon?", edits).considered)
