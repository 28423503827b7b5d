"""Bodies about the scope."""

from memedit.server.schemas.common import Out


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
