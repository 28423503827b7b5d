"""Rows that go through a model together."""

from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.models.row_groups import bucket_by_length


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=20), st.integers(8, 120))
def test_no_row_is_lost_and_groups_keep_their_size(lengths: list[int], tokens: int) -> None:
    rows = [(i,) * length for i, length in enumerate(lengths)]
    groups = bucket_by_length(rows, tokens=tokens)
    assert sorted(row for group in groups for row in group) == sorted(rows)
    for group in groups:
        longest = max(map(len, group))
        assert len(group) == 1 or len(group) * longest <= tokens
        assert longest <= 2 * min(map(len, group))


def test_rows_of_a_kind_go_together() -> None:
    assert bucket_by_length(["abcd", "a", "abc"], tokens=8) == [["a"], ["abc", "abcd"]]
    rows = [tuple(range(n)) for n in (3, 9, 4, 8, 3, 50)]
    groups = bucket_by_length(rows, tokens=20)
    assert [[len(row) for row in group] for group in groups] == [[3, 3, 4], [8, 9], [50]]
