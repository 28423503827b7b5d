"""Bodies about possible conflicts, and about teaching an edit by hand."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from memedit.memory import PossibleConflict
from memedit.server.schemas.common import In, Out
from memedit.server.schemas.edits import EditOut, Text


class PossibleConflictOut(Out):
    """Two edits that perhaps ask the same and answer otherwise; ``score`` is how surely they ask the same."""

    newer: EditOut
    older: EditOut
    score: float
    at: datetime

    @classmethod
    def of(cls, pair: PossibleConflict) -> "PossibleConflictOut":
        """Return a pair as a body."""
        return cls(newer=EditOut.of(pair.newer), older=EditOut.of(pair.older), score=pair.score, at=pair.at)


class PossibleConflictList(Out):
    """Pairs that nobody has settled, the likeliest first."""

    object: Literal["list"] = "list"
    data: list[PossibleConflictOut]


class SettleIn(In):
    """The two edits of a pair, in either order, and whether both are one question.

    If so, the older one is withdrawn for the newer. If not, each blocks the other's prompt from now on.
    """

    edits: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=2, max_length=2)]
    same: bool


class TaughtIn(In):
    """A text as it is asked; ``remove`` takes it back."""

    text: Text
    remove: bool = False
