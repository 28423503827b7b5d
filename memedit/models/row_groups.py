"""Grouping rows of tokens that go through a model together."""

from collections.abc import Sequence, Sized
from typing import TypeVar

Row = TypeVar("Row", bound=Sized)


def bucket_by_length(rows: Sequence[Row], *, tokens: int) -> list[list[Row]]:
    """Group rows by length, so that little is padded.

    Args:
        rows: what is to be grouped; ``len(row)`` counts its tokens.
        tokens: so many, padding included, a group has at most; a longer row makes a group of its own.

    Returns:
        the groups, from short rows to long ones; in none is more than half padding.
    """
    groups: list[list[Row]] = []
    for row in sorted(rows, key=len):
        short = groups and len(row) <= 2 * len(groups[-1][0])
        if short and (len(groups[-1]) + 1) * len(row) <= tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
