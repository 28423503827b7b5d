"""Who changed what, and which namespaces there are."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from memedit.server.auth import Admin, Reader
from memedit.server.min_revision import awaited_revision
from memedit.server.queues import fairly
from memedit.server.routes.keys import quota_uses
from memedit.server.schemas.administration import AuditList, AuditOut, NamespaceList, NamespaceOut
from memedit.server.schemas.common import responses
from memedit.server.schemas.keys import QuotaOut
from memedit.server.state import server_state

router = APIRouter(prefix="/v1", tags=["administration"], dependencies=[Depends(awaited_revision)])


@router.get("/audit", operation_id="audit", responses=responses())
@fairly
def audit(
    *,
    request: Request,
    who: Admin,
    namespace: Annotated[str | None, Query(max_length=255, description="Only changes in this namespace.")] = None,
    actor: Annotated[str | None, Query(max_length=500, description="Only changes by this one.")] = None,
    before: Annotated[int | None, Query(ge=0, lt=2**63, description="Only revisions below this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> AuditList:
    """Return who changed what, when, from what to what; newest first. Changes of API keys have no namespace."""
    spaces = [who.check_namespace(namespace)] if namespace is not None else None
    if spaces is None and who.namespaces is not None:
        spaces = sorted(who.namespaces)
    found = server_state(request).memory.audit(namespaces=spaces, actor=actor, before=before, limit=limit)
    last = found[-1].revision if len(found) == limit else None
    return AuditList(data=[AuditOut.of(entry) for entry in found], next=last)


@router.get("/namespaces", operation_id="list_namespaces", responses=responses())
@fairly
def list_namespaces(request: Request, who: Reader) -> NamespaceList:
    """Return the namespaces that the key may look into, and how many edits they have, by state, with quotas."""
    state = server_state(request)
    counts, quotas, used = state.memory.counts(), state.memory.quotas.all(), quota_uses(state, "namespace")
    names = [name for name in sorted({*counts, *quotas}) if who.namespaces is None or name in who.namespaces]
    return NamespaceList(
        data=[
            NamespaceOut(
                name=name,
                edits=counts.get(name, {}),
                quota=QuotaOut.of(quotas[name]) if name in quotas else None,
                used=used.get(name),
            )
            for name in names
        ]
    )
