"""What the scope laboratory makes of scores."""

from memedit.evaluation.scope_lab import ScopeScores, pooled, summary


def scores(dataset: str = "towns") -> ScopeScores:
    """Four paraphrases of which another edit wins one, and four strangers that come near nothing."""
    right, wrong, strangers = [0.9, 0.8, 0.95], [-1.0], [0.1, 0.2, 0.05, 0.3]
    groups = {"paraphrase": [*right, *wrong], "stranger": strangers}
    return ScopeScores(dataset, "subject", 0.5, 7, groups, {"paraphrase": [*right, 0.99], "stranger": strangers})


def test_a_query_that_another_edit_wins_is_a_miss_and_is_detected() -> None:
    areas = summary(scores())["auc"]
    assert areas["paraphrase_vs_stranger"]["value"] == 0.75
    assert areas["paraphrase_vs_stranger.any_edit"]["value"] == 1.0
    assert summary(scores())["at_threshold"]["paraphrase.missed"]["value"] == 25.0


def test_data_sets_are_pooled_query_by_query() -> None:
    both = pooled([scores("towns"), scores("rivers")])
    assert both.edits == 14
    assert len(both.groups["stranger"]) == len(both.detected["paraphrase"]) == 8
    assert summary(both)["auc"]["paraphrase_vs_stranger.any_edit"]["n"] == 16
