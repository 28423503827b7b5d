"""Edits in and out as files: bodies that are streamed, never paths."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from memedit.errors import DatasetError, FieldError
from memedit.server.auth import EditAccess, ReadAccess
from memedit.server.changes import ClientChange, IdempotencyKey, reply
from memedit.server.min_revision import awaited_revision
from memedit.server.queues import fairly
from memedit.server.schemas.common import responses
from memedit.server.schemas.edits import OnConflictValue
from memedit.server.schemas.files import ImportOut
from memedit.server.state import server_state

router = APIRouter(prefix="/v1/edits", tags=["edits"], dependencies=[Depends(awaited_revision)])

LINES = "application/x-ndjson"
KINDS = {
    LINES: ".jsonl",
    "application/json": ".json",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/markdown": ".md",
}
"""Types of bodies to import, and the names of files that are read so."""
_PART = 1 << 16
Form = Literal["jsonl", "counterfact", "zsre", "knowedit", "mem0"]


@router.get(
    "/export",
    operation_id="export_edits",
    response_class=StreamingResponse,
    responses={
        200: {"description": "One edit a line.", "content": {LINES: {"schema": {"type": "string"}}}},
        **responses(),
    },
)
@fairly
def export_edits(
    request: Request,
    access: ReadAccess,
    format: Annotated[Form, Query(description="Form of the lines; jsonl, our own, loses nothing.")] = "jsonl",
    state: Annotated[Literal["pending", "active", "consolidated"] | None, Query(description="Only this state.")] = None,
) -> StreamingResponse:
    """Return the edits that are not withdrawn, as a file."""
    # spooled first: a slow client must not hold a read transaction open
    file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed when it is sent
    try:
        count = server_state(request).memory.export_to(file, format=format, state=state, namespace=access.namespace)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = {"Content-Disposition": 'attachment; filename="edits.jsonl"', "X-Memedit-Count": str(count)}
    return StreamingResponse(_parts(file), media_type=LINES, headers=headers)


@router.post(
    "/import",
    operation_id="import_edits",
    response_model=ImportOut,
    responses=responses(409),
    openapi_extra={
        "requestBody": {"required": True, "content": {kind: {"schema": {"type": "string"}} for kind in KINDS}}
    },
)
async def import_edits(
    *,
    request: Request,
    access: EditAccess,
    format: Annotated[Form | Literal["auto"], Query(description="Form of the rows; auto looks at the first.")] = "auto",
    paraphrases: Annotated[bool, Query(description="Take over a data set's rephrasings.")] = False,
    on_conflict: Annotated[OnConflictValue, Query(description="What to do with contradictions.")] = "error",
    skip_invalid: Annotated[bool, Query(description="Go on where a row cannot be used; such rows are listed.")] = False,
    dry_run: Annotated[bool, Query(description="Write nothing: say what would become of it.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Add the edits of a body (JSONL, JSON, a table or Markdown) in one transaction: all of them, or none."""
    with tempfile.TemporaryDirectory(prefix="memedit-import-") as folder:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        path = Path(folder) / f"body{KINDS.get(kind, '')}"
        digest = await _received(request, path)
        state = server_state(request)
        change = ClientChange(state, request, digest, idempotency_key)

        def add() -> Response:
            with _nameless(path):
                report = state.memory.import_file(
                    path,
                    format=format,
                    paraphrases=paraphrases,
                    on_conflict=on_conflict,
                    skip_invalid=skip_invalid,
                    dry_run=dry_run,
                    namespace=access.namespace,
                )
            return reply(ImportOut.of(report))

        if dry_run:
            return await state.reads.run(access.who.name, add)
        return await state.changes.run(access.who.name, partial(change.make, access, add))


@contextmanager
def _nameless(path: Path) -> Iterator[None]:
    """Leave the file's name, which means nothing to the client, out of errors."""
    try:
        yield
    except DatasetError as error:
        message = str(error).replace(str(path), "the body")
        raise FieldError(error.field or "body", message.removeprefix("the body, ")) from error


async def _received(request: Request, path: Path) -> str:
    """Write a request's body to a file as it comes in; return its digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        async for part in request.stream():
            digest.update(part)
            await run_in_threadpool(file.write, part)
    return digest.hexdigest()


def _parts(file: IO[str]) -> Iterator[str]:
    with file:
        while part := file.read(_PART):
            yield part
