"""Blocks: a text that must not fire an edit never does, whatever the scope and its threshold."""

import pytest

from memedit.runtime.passages import decide_parts
from memedit.scope import load_scope
from memedit.scope.decision import FiringRule, ScoredCandidate, decide_query
from memedit.types import Hit

ASK, OTHER = "The capital of Peru is", "Peru was the capital of"


@pytest.mark.parametrize("name", ["similarity", "subject"])
@pytest.mark.parametrize("threshold", [None, 0.0])
def test_a_blocked_text_does_not_fire_its_edit(name, threshold, encoder, bench):
    edit = bench.edit(ASK, subject="Peru", blocks=("peru was the  CAPITAL of?",))
    scope = load_scope(name, encoder)
    query, found = bench.ask(OTHER, [edit])
    (decision,) = scope.decide([query], [found], threshold=threshold)
    assert decision.fired == ()
    assert not decision.abstained
    (hit,) = decision.considered
    assert (hit.score, hit.reasons["blocked"]) == (0.0, 1.0)
    query, found = bench.ask(ASK, [edit])
    assert [hit.edit.id for hit in scope.decide([query], [found])[0].fired] == [edit.id]


def scored(edit, score):
    return ScoredCandidate(Hit(edit, score, score), None)


def test_others_fire_in_its_place_but_not_an_older_edit_of_the_same_prompt(bench):
    older = bench.edit(ASK, "Cusco", subject="Peru")
    blocked = bench.edit(ASK, "Lima", subject="Peru", blocks=(OTHER,))
    other = bench.edit("Peru once was the capital of", "a viceroyalty", subject="Peru")
    query, _ = bench.ask(OTHER, [])
    items = [scored(blocked, 0.95), scored(older, 0.9), scored(other, 0.8)]
    decision = decide_query("any", query, items, FiringRule(0.5))
    assert [hit.edit.id for hit in decision.fired] == [other.id]
    assert [hit.edit.id for hit in decision.considered] == [older.id, other.id, blocked.id]
    (only,) = decide_query("any", query, [scored(blocked, 0.95), scored(other, 0.0)], FiringRule(0.0)).fired
    assert only.edit.id == other.id


def test_a_block_longer_than_one_part_of_a_passage_holds(encoder, bench):
    passage = " ".join(f"Sentence {i} has nothing to do with it." for i in range(40)) + f" {ASK}"
    scope = load_scope("similarity", encoder)

    def fired(*blocks):
        edit = bench.edit(ASK, subject="Peru", blocks=blocks)

        def judge(texts, threshold):
            asked = [bench.ask(text, [edit]) for text in texts]
            return scope.decide([query for query, _ in asked], [row for _, row in asked], threshold=threshold)

        return decide_parts([passage], judge, threshold=0.75)[0].fired

    assert fired()
    assert fired(OTHER)
    assert not fired(passage.upper())
