"""Bodies about the scope."""

import math
from typing import Any, Literal

from pydantic import Field

from memedit.server.schemas.common import In, Out
from memedit.server.schemas.requests import FeedbackOut
from memedit.workflows.feedback import Remedies


class TradeoffPoint(Out):
    """Shares in [0, 1] of queries on which an edit fires at a threshold; ``paraphrases`` null without any."""

    threshold: float
    paraphrases: float | None
    others: float


class TradeoffOut(Out):
    """The trade-off of a namespace: on how many edits and paraphrases it was measured, and the threshold in force."""

    namespace: str
    scope: str
    threshold: float
    calibrated: bool
    edits: int
    paraphrases: int
    points: list[TradeoffPoint]


class CalibrateIn(In):
    """Nothing, to be shown what mends the feedback; or the ``proposal`` that was shown, to have it done."""

    proposal: str | None = Field(default=None, min_length=1, max_length=100)


class RemedyOut(Out):
    """A verdict and what is done about it.

    ``action``: none (it is as it should be already), threshold (the proposed one mends it), block or also (the text is
    taught to the edit), left (nothing helps; ``reason`` says why). ``score`` is null where the edit was not found for
    the text, or another covers the same words.
    """

    feedback: FeedbackOut
    score: float | None
    fires: bool
    action: Literal["none", "threshold", "block", "also", "left"]
    reason: str


class CalibrateOut(Out):
    """What the feedback comes to, or what was done (``applied``).

    Shares are of the memory's own texts, now and as proposed: ``caught`` of paraphrases, null without any, that fire
    their edit when they are not stored; ``false_fires`` of prompts on which another edit than their own fires.
    """

    namespace: str
    scope: str
    threshold: float
    proposed: float
    proposal: str
    applied: bool
    remedies: list[RemedyOut]
    caught: tuple[float | None, float | None]
    false_fires: tuple[float | None, float | None]

    @classmethod
    def of(cls, found: Remedies, *, proposal: str, applied: bool) -> "CalibrateOut":
        """Return remedies as a body."""
        remedies = [
            RemedyOut(
                feedback=FeedbackOut.of(one.verdict, one.edit),
                score=one.score,
                fires=one.fires,
                action=one.action,
                reason=one.reason,
            )
            for one in found.remedies
        ]
        plain: dict[str, Any] = {name: getattr(found, name) for name in ("namespace", "scope", "threshold", "proposed")}
        shares: dict[str, Any] = {"caught": _shares(found.caught), "false_fires": _shares(found.false_fires)}
        return cls(**plain, **shares, remedies=remedies, proposal=proposal, applied=applied)


def _shares(pair: tuple[float, float]) -> tuple[float | None, float | None]:
    now, then = (None if math.isnan(share) else share for share in pair)
    return now, then
