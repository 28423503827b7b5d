"""What the scope's threshold brings and costs."""

from fastapi import APIRouter, Depends, Request

from memedit.server.auth import ReadAccess
from memedit.server.min_revision import awaited_revision
from memedit.server.schemas.common import responses
from memedit.server.schemas.scope import TradeoffOut, TradeoffPoint
from memedit.server.state import server_state

router = APIRouter(prefix="/v1/scope", tags=["scope"], dependencies=[Depends(awaited_revision)])


@router.get("/tradeoff", operation_id="scope_tradeoff", responses=responses())
def tradeoff(request: Request, access: ReadAccess) -> TradeoffOut:
    """Measure, on a sample of the namespace's own edits, on what share of queries an edit fires at each threshold.

    A paraphrase is asked as if it were not stored, and a prompt as if its own edit were not: what fires on the first is
    right, on the second wrong.
    """
    state = server_state(request)
    found = state.tradeoffs.of(access.namespace)
    points = [TradeoffPoint(threshold=x, paraphrases=right, others=wrong) for x, right, wrong in found.points()]
    threshold = state.lookups.threshold(access.namespace)
    return TradeoffOut(
        namespace=access.namespace,
        scope=state.lookups.scope.name,
        threshold=threshold,
        calibrated=threshold != state.lookups.scope.threshold,
        edits=found.edits,
        paraphrases=len(found.right),
        points=points if found.edits else [],
    )
