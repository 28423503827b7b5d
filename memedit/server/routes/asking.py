"""Why would an edit fire? Looked up as for an answer, without one."""

from dataclasses import replace

from fastapi import APIRouter, Depends, Request

from memedit.errors import FieldError
from memedit.runtime.asked import Asked, asked_of
from memedit.server.auth import ReadAccess
from memedit.server.min_revision import awaited_revision
from memedit.server.queues import fairly
from memedit.server.rendering import Shown, shown_chain, shown_hits
from memedit.server.schemas.common import ChainHopOut, FiredEdit, responses
from memedit.server.schemas.edits import ExplainIn, ExplainOut
from memedit.server.state import server_state

router = APIRouter(prefix="/v1/edits", tags=["edits"], dependencies=[Depends(awaited_revision)])


@router.post("/explain", operation_id="explain", responses=responses())
@fairly
def explain(request: Request, access: ReadAccess, body: ExplainIn) -> ExplainOut:
    """Say which edits would fire on a prompt and why, without an answer. A chat is looked up by its last user turn."""
    query = _query(body)
    lookups, chats = server_state(request).lookups, [body.messages is not None]
    found = lookups.decide(access.namespace, [query], threshold=body.threshold, chats=chats)
    decision, shown = found.decisions[0], Shown(reasons=True)
    return ExplainOut(
        query=decision.query,
        namespace=access.namespace,
        revision=found.revision,
        scope=decision.scope,
        threshold=float(decision.threshold),
        abstained=decision.abstained,
        version=found.served.version_for(decision),
        fired=[FiredEdit(**hit) for hit in shown_hits(decision.fired, shown)],
        in_weights=[FiredEdit(**hit) for hit in shown_hits(decision.in_weights, shown)],
        chain=[ChainHopOut(**hop) for hop in shown_chain(decision.chain, shown)],
        considered=[FiredEdit(**hit) for hit in shown_hits(decision.considered, shown)],
    )


def _query(body: ExplainIn) -> Asked:
    if (body.prompt is None) == (body.messages is None):
        raise FieldError("prompt", "give either a prompt or messages")
    if body.messages is None:
        return Asked(body.prompt or "", chains=body.chains)
    asked = asked_of([{"role": message.role, "content": message.content or ""} for message in body.messages])
    if not asked.text.strip():
        raise FieldError("messages", "the last user message has no text that could be looked up")
    return replace(asked, chains=body.chains)
