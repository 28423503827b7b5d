"""API keys and quotas.

They are for administrators of every namespace: a limit is nothing if who is held to it can set it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Request

from memedit.errors import InputError
from memedit.memory import Actor, ApiKey, Role
from memedit.server.auth import AdminAccess, Principal, ReadAccess, require
from memedit.server.keeping.usage import usages
from memedit.server.min_revision import awaited_revision
from memedit.server.problems import ApiError
from memedit.server.schemas.common import responses
from memedit.server.schemas.keys import KeyIn, KeyList, KeyOut, KeyPatch, NewKeyOut, QuotaIn, QuotaOut, QuotaUse
from memedit.server.state import ServerState, server_state

router = APIRouter(prefix="/v1", tags=["administration"], dependencies=[Depends(awaited_revision)])
T = TypeVar("T")
KeyId = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


async def _everywhere(who: Annotated[Principal, require(Role.ADMIN)]) -> Principal:
    return _unbounded(who)


def _unbounded(who: Principal) -> Principal:
    if who.namespaces is not None:
        message = "keys and quotas are set by administrators of every namespace; this key has only some"
        raise ApiError(403, message, code="namespace_not_allowed")
    return who


Everywhere = Annotated[Principal, Depends(_everywhere)]


@router.get("/keys", operation_id="list_keys", responses=responses())
def list_keys(request: Request, who: Everywhere) -> KeyList:
    """List the API keys, without their secrets."""
    state = server_state(request)
    used, recent = quota_uses(state, "key"), state.authenticator.recent_uses()
    return KeyList(
        data=[
            KeyOut.of(replace(key, last_used_at=recent.get(key.id, key.last_used_at)), used.get(f"{key.name}/{key.id}"))
            for key in state.memory.keys.list()
        ]
    )


@router.post("/keys", operation_id="create_key", status_code=201, responses=responses())
async def create_key(request: Request, who: Everywhere, body: KeyIn) -> NewKeyOut:
    """Make a key and return it with its secret: this once, it is kept nowhere."""
    state = server_state(request)
    key, secret = await _changed(request, who, lambda: state.memory.keys.create(**body.model_dump()))
    return NewKeyOut(**KeyOut.of(key).model_dump(), secret=secret)


@router.patch("/keys/{key_id}", operation_id="change_key", responses=responses(404))
async def change_key(request: Request, who: Everywhere, key_id: KeyId, body: KeyPatch) -> KeyOut:
    """Set limits of a key, or whether its requests may be logged."""
    keys = server_state(request).memory.keys
    return KeyOut.of(await _changed(request, who, _known(lambda: keys.change(key_id, **body.changes()))))


@router.delete("/keys/{key_id}", operation_id="revoke_key", responses=responses(404))
async def revoke_key(request: Request, who: Everywhere, key_id: KeyId) -> KeyOut:
    """Let a key open nothing from now on, on every server of the memory. Twice is as once."""
    keys = server_state(request).memory.keys
    return KeyOut.of(await _changed(request, who, _known(lambda: keys.revoke(key_id))))


@router.get("/quota", operation_id="get_quota", responses=responses())
def get_quota(request: Request, access: ReadAccess) -> QuotaOut:
    """Return the limits of a namespace."""
    return QuotaOut.of(server_state(request).memory.quotas.of(access.namespace))


@router.put("/quota", operation_id="set_quota", responses=responses())
async def set_quota(request: Request, access: AdminAccess, body: QuotaIn) -> QuotaOut:
    """Set the limits of a namespace, all of them; what is left out is no limit. Edits that are there stay."""
    state, quota = server_state(request), body.quota()
    _unbounded(access.who)

    def put() -> None:
        state.memory.quotas.set(access.namespace, quota)
        state.quotas.refresh()

    await _changed(request, access.who, put)
    return QuotaOut.of(quota)


def quota_uses(state: ServerState, of: str) -> dict[str, QuotaUse]:
    """Return what is used of the quotas of all namespaces, or of all keys."""
    found: dict[str, QuotaUse] = {}
    for one in usages(state.memory, state.quotas):
        if one.of == of:
            setattr(found.setdefault(one.name, QuotaUse()), one.kind, one.used)
    return found


async def _changed(request: Request, who: Principal, change: Callable[[], T]) -> T:
    """Make a change on behalf of ``who`` when its turn has come."""
    state, actor = server_state(request), Actor(who.name, request.state.request_id)

    def change_as() -> T:
        with state.memory.as_actor(actor):
            return change()

    return await state.changes.run(who.name, change_as)


def _known(change: Callable[[], ApiKey]) -> Callable[[], ApiKey]:
    """Have a key that is not there be a 404."""

    def made() -> ApiKey:
        try:
            return change()
        except InputError as error:
            if "no API key" in str(error):
                raise ApiError(404, str(error), code="not_found") from error
            raise

    return made
