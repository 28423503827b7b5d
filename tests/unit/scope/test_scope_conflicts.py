"""Contradictions in other words."""

from dataclasses import replace

import numpy as np

from memedit.scope import ScopeConflictScorer, load_scope


def test_same_question_scores_above_another_in_either_order(encoder, bench):
    scorer = ScopeConflictScorer(load_scope("subject", encoder))
    prompts = (
        "The capital of Peru is",
        "The capital city of Peru is",
        "Peru exports mostly",
        "the capital of Peru is!",
    )
    capital, city, exports, again = (bench.edit(prompt, str(i), subject="Peru") for i, prompt in enumerate(prompts))
    same, other, swapped, verbatim = scorer.scores(
        [(capital, city), (capital, exports), (city, capital), (capital, again)], encoder
    )
    assert same > other
    assert same == swapped
    assert verbatim == 1.0
    assert scorer.scores([], encoder).shape == (0,)


def test_pairs_of_a_batch_score_as_they_do_alone(encoder, bench):
    scorer = ScopeConflictScorer(load_scope("subject", encoder))
    edits = [bench.edit(f"The {word} of Peru is", word, subject="Peru") for word in "abcdefghijkl"]
    pairs = [(new, old) for i, new in enumerate(edits) for old in edits[:i]]
    alone = [scorer.scores([pair], encoder)[0] for pair in pairs]
    np.testing.assert_allclose(scorer.scores(pairs, encoder), alone, atol=1e-6)


def test_both_directions_count(encoder, bench):
    scorer = ScopeConflictScorer(load_scope("subject", encoder))
    capital = bench.edit("The capital of Peru is", "Lima", subject="Peru")
    exports = bench.edit("Peru exports mostly", "copper", subject="Peru")
    wide = replace(capital, paraphrases=(exports.prompt,))
    before = scorer.scores([(capital, exports)], encoder)[0]
    assert before < 0.95
    assert scorer.scores([(wide, exports)], encoder)[0] == before  # one question of the two is the other's
    assert scorer.scores([(wide, replace(exports, paraphrases=(capital.prompt,)))], encoder)[0] == 1.0
    again = bench.edit("the capital of peru is", "Cusco", subject="Peru")
    assert scorer.scores([(capital, again)], encoder)[0] == 1.0
    assert scorer.scores([(replace(capital, blocks=(again.prompt + "?",)), again)], encoder)[0] == 0.0


def test_doubt_begins_where_both_edits_fire_on_both_questions(encoder):
    scope = load_scope("subject", encoder, threshold=0.4)
    assert (ScopeConflictScorer(scope).threshold, ScopeConflictScorer(scope).doubt) == (0.9, 0.4)
    assert ScopeConflictScorer(scope, threshold=0.3).doubt == 0.3
    assert ScopeConflictScorer(scope, doubt=0.7).doubt == 0.7
