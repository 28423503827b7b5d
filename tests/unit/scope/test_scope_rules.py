"""The similarity and subject scopes, and how candidates become decisions."""

import pytest

from memedit.errors import InputError, UnknownNameError
from memedit.scope import Scope, load_scope
from memedit.scope.decision import FiringRule, ScoredCandidate, decide_query
from memedit.types import Hit

RULES = ["similarity", "subject"]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_follows_the_protocol(name, encoder):
    assert isinstance(load_scope(name, encoder), Scope)


def test_unknown_scope_names_its_neighbours(encoder):
    with pytest.raises(UnknownNameError, match="similarity"):
        load_scope("similarty", encoder)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_threshold_outside_the_scores_is_refused(name, bad, encoder, bench):
    with pytest.raises(InputError, match="threshold"):
        load_scope(name, encoder, threshold=bad)
    query, found = bench.ask("hello", [])
    with pytest.raises(InputError, match="threshold"):
        load_scope(name, encoder).decide([query], [found], threshold=bad)


@pytest.mark.parametrize("name", RULES)
def test_verbatim_prompt_always_fires_whatever_its_case_and_punctuation(name, encoder, bench):
    edits = [bench.edit("The capital of Peru is", subject="Peru"), bench.edit("The anthem of Peru is", subject="Peru")]
    scope = load_scope(name, encoder, threshold=1.0)
    query, found = bench.ask("the capital of PERU, is", edits)
    (decision,) = scope.decide([query], [found])
    assert [hit.edit.id for hit in decision.fired] == [edits[0].id]
    assert decision.fired[0].score == 1.0
    assert decision.fired[0].reasons["verbatim"] == 1.0


@pytest.mark.parametrize("name", RULES)
def test_stored_paraphrase_counts_as_verbatim(name, encoder, bench):
    edit = bench.edit("The capital of Peru is", subject="Peru", paraphrases=("Which city governs Peru?",))
    query, found = bench.ask("which city governs Peru", [edit])
    assert load_scope(name, encoder).decide([query], [found])[0].fired[0].score == 1.0


@pytest.mark.parametrize("name", RULES)
def test_later_edit_wins_when_a_prompt_is_stored_twice(name, encoder, bench):
    edits = [bench.edit("The capital of Peru is", target, subject="Peru") for target in ("Cusco", "Lima", "Arequipa")]
    query, found = bench.ask("The capital of Peru is", [edits[2], edits[0], edits[1]])
    (decision,) = load_scope(name, encoder).decide([query], [found])
    assert [hit.edit.target for hit in decision.fired] == ["Arequipa"]
    assert len(decision.considered) == 3


def test_subject_in_the_query_raises_the_score(encoder, bench):
    edit = bench.edit("The capital of Peru is", subject="Peru")
    scope = load_scope("subject", encoder)
    with_subject, without = (bench.ask(text, [edit]) for text in ("Tell me the capital of Peru", "capital of Chile is"))
    (first, second) = scope.decide([with_subject[0], without[0]], [with_subject[1], without[1]])
    assert first.considered[0].score > second.considered[0].score
    assert first.considered[0].reasons["subject"] == 1.0
    assert second.considered[0].reasons["subject"] == 0.0


def test_several_edits_fire_on_a_question_about_several_subjects(encoder, bench):
    edits = [bench.edit("The capital of Peru is", subject="Peru"), bench.edit("The capital of Chad is", subject="Chad")]
    query, found = bench.ask("What is the capital of Peru and the capital of Chad?", edits)
    (decision,) = load_scope("subject", encoder).decide([query], [found], threshold=0.0)
    assert {hit.edit.subject for hit in decision.fired} == {"Peru", "Chad"}


def test_of_edits_on_one_subject_the_best_fires(encoder, bench):
    edits = [bench.edit("The anthem of Peru is", subject="Peru"), bench.edit("The capital of Peru is", subject="Peru")]
    query, found = bench.ask("So the capital of Peru is", edits)
    (decision,) = load_scope("subject", encoder).decide([query], [found], threshold=0.0)
    assert [hit.edit.prompt for hit in decision.fired] == ["The capital of Peru is"]
    (both,) = load_scope("subject", encoder, margin=1.0).decide([query], [found], threshold=0.0)
    assert len(both.fired) == 2


def test_of_two_high_scores_the_one_with_far_better_odds_fires_alone(bench):
    edits = [bench.edit(f"The {what} of Peru is", subject="Peru") for what in ("anthem", "capital", "flag")]
    scored = [
        ScoredCandidate(Hit(edit, score, 0.5, {}, 0.9), (0, 4))
        for edit, score in zip(edits, (0.999, 0.97, 0.9985), strict=True)
    ]
    query = bench.encoder.encode_tokens(["What of Peru?"])[0]
    close = decide_query("x", query, scored, FiringRule(0.5, margin=0.5, lead=1.0))
    assert [hit.score for hit in close.fired] == [0.999, 0.9985]
    wide = decide_query("x", query, scored, FiringRule(0.5, margin=0.5))
    assert len(wide.fired) == 3


def test_a_score_just_below_the_threshold_is_reported_as_abstained(encoder, bench):
    edit = bench.edit("The capital of Peru is", subject="Peru")
    query, found = bench.ask("capital Peru", [edit])
    score = load_scope("subject", encoder).decide([query], [found])[0].considered[0].score
    near = load_scope("subject", encoder, threshold=min(score + 0.01, 1.0), band=0.02)
    far = load_scope("subject", encoder, threshold=min(score + 0.01, 1.0), band=0.001)
    assert near.decide([query], [found])[0].abstained
    assert not far.decide([query], [found])[0].abstained
    assert not near.decide([query], [[]])[0].abstained


def test_fingerprint_depends_on_scope_and_encoder_but_not_on_the_threshold(encoder):
    base = load_scope("subject", encoder)
    assert base.fingerprint == load_scope("subject", encoder, threshold=0.9).fingerprint
    assert base.fingerprint != load_scope("similarity", encoder).fingerprint
    other = type(encoder)()
    other.fingerprint = "another"
    assert base.fingerprint != load_scope("subject", other).fingerprint


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("text", ["", "???", "日本の首都は", "\u202eabc", "a" * 20000])
def test_any_text_gets_a_decision(name, text, encoder, bench):
    query, found = bench.ask(text, [bench.edit("The capital of Peru is", subject="Peru")])
    (decision,) = load_scope(name, encoder).decide([query], [found])
    assert decision.query == text
    assert not decision.fired
