"""What the scope's threshold brings and costs, and what mends the feedback on it."""

from fastapi import APIRouter, Depends, Request

from memedit.memory import Actor
from memedit.server.auth import AdminAccess, ReadAccess
from memedit.server.min_revision import awaited_revision
from memedit.server.problems import ApiError
from memedit.server.queues import fairly
from memedit.server.schemas.common import responses
from memedit.server.schemas.scope import CalibrateIn, CalibrateOut, TradeoffOut, TradeoffPoint
from memedit.server.state import server_state
from memedit.workflows.feedback import carry_out, propose

router = APIRouter(prefix="/v1/scope", tags=["scope"], dependencies=[Depends(awaited_revision)])


@router.get("/tradeoff", operation_id="scope_tradeoff", responses=responses())
@fairly
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


@router.post("/calibrate", operation_id="calibrate_scope", responses=responses(409))
async def calibrate(request: Request, access: AdminAccess, body: CalibrateIn | None = None) -> CalibrateOut:
    """Show what mends the open feedback on a namespace; given the `proposal` that was shown, do it."""
    state, wanted = server_state(request), None if body is None else body.proposal
    memory, lookups = state.memory, state.lookups

    def work() -> CalibrateOut:
        found = propose(
            memory,
            lookups.scope,
            namespace=access.namespace,
            threshold=lookups.threshold(access.namespace),
            move=not lookups.pinned,
        )
        shown = found.fingerprint
        if wanted is not None and wanted != shown:
            message = "the feedback, the edits or the threshold have changed since; look at the new proposal"
            raise ApiError(409, message, code="proposal_changed")
        if wanted is not None:
            with memory.as_actor(Actor(access.who.name, request.state.request_id)):
                found = carry_out(memory, lookups.scope, found)
        return CalibrateOut.of(found, proposal=shown, applied=wanted is not None)

    threads = state.reads if wanted is None else state.changes
    return await threads.run(access.who.name, work)
