"""Contradictions in other words."""

from memedit.scope import ScopeConflictScorer, load_scope


def test_same_relation_scores_above_another_in_either_order(encoder):
    scorer = ScopeConflictScorer(load_scope("subject", encoder))
    same = scorer("The capital of Peru is", "The capital city of Peru is", "Peru", encoder)
    other = scorer("The capital of Peru is", "Peru exports mostly", "Peru", encoder)
    assert same > other
    assert same == scorer("The capital city of Peru is", "The capital of Peru is", "Peru", encoder)
    assert scorer("The capital of Peru is", "the capital of Peru is!", "Peru", encoder) == 1.0
