"""The part of the client that is about edits; the names are those of :class:`memedit.EditMemory`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from memedit.client.results import (
    AddResult,
    AuditEntry,
    EditChange,
    Explanation,
    PossibleConflict,
    add_result,
    audit_of,
    change_of,
    edit_of,
    explanation_of,
    possible_conflict_of,
)
from memedit.client.transport import Transport
from memedit.errors import InputError
from memedit.types import Edit, EditDraft, EditKind, EditState
from memedit.zones import noticed

OnConflict = Literal["error", "supersede", "keep"]
Edits = list[Edit]
Scored = list[tuple[Edit, float]]
_PAGE = 500


class EditCalls:
    """Adds, finds and changes edits over HTTP. See :class:`memedit.client.Client` for the errors raised."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
        self,
        prompt: str,
        target: str,
        *,
        subject: str | None = None,
        paraphrases: Sequence[str] = (),
        blocks: Sequence[str] = (),
        ground_truth: str | None = None,
        kind: EditKind | str = EditKind.FACT,
        metadata: Mapping[str, Any] | None = None,
        source: str | None = None,
        valid_at: datetime | None = None,
        invalid_at: datetime | None = None,
        on_conflict: OnConflict = "error",
    ) -> Edit:
        """Store one edit and put it in force; adding the same edit again returns the first.

        Raises:
            ConflictError: it contradicts an edit in force and ``on_conflict`` is "error".
            FieldError: a field cannot be used.
        """
        fields = {
            "prompt": prompt,
            "target": target,
            "subject": subject,
            "paraphrases": list(paraphrases),
            "blocks": list(blocks),
            "ground_truth": ground_truth,
            "kind": kind,
            "metadata": dict(metadata or {}),
            "source": source,
            "valid_at": valid_at,
            "invalid_at": invalid_at,
        }
        params = {"on_conflict": on_conflict}
        return edit_of(self._transport.change("POST", "/v1/edits", json=_plain(fields), params=params))

    def add_many(
        self, drafts: Iterable[EditDraft | Mapping[str, Any]], *, on_conflict: OnConflict = "error"
    ) -> AddResult:
        """Store up to 10,000 edits in one transaction: all of them, or none when one is refused.

        Raises:
            ConflictError, FieldError: a row is refused; nothing was stored.
        """
        rows = [_plain(_fields(draft)) for draft in drafts]
        params = {"on_conflict": on_conflict}
        if not rows:
            return AddResult((), (), (), (), ())
        return add_result(self._transport.change("POST", "/v1/edits/batch", json={"edits": rows}, params=params))

    def get(self, id: str) -> Edit:
        """Return the current version of an edit, withdrawn or not.

        Raises:
            EditNotFoundError: there is none with this id.
        """
        return edit_of(self._transport.get(_path(id)))

    def list(
        self,
        *,
        state: EditState | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Edits:
        """Return edits in the order in which they were added, all pages; ``state`` None is every one not withdrawn."""
        wanted = None if metadata is None else json.dumps(dict(metadata))
        found: Edits = []
        after: str | None = None
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self._transport.get("/v1/edits", state=state, metadata=wanted, after=after, limit=size)
            found += [edit_of(body) for body in page["data"]]
            after = page["next"]
            if after is None:
                break
        return found

    def search(self, text: str, k: int = 10, mode: Literal["text", "semantic"] = "text") -> Scored:
        """Return the ``k`` best edits with scores: by words (every one occurs in the edit) or by meaning (cosine)."""
        body = self._transport.get("/v1/edits/search", q=text, mode=mode, limit=k)
        return [(edit_of(item["edit"]), float(item["score"])) for item in body["data"]]

    def update(
        self, id: str, *, if_version: int | None = None, on_conflict: OnConflict = "error", **changes: Any
    ) -> Edit:
        """Correct an edit in place: the same id, the next version.

        Args:
            id: the edit.
            if_version: refuse when it is no longer at this version.
            on_conflict: as for :meth:`add`.
            changes: fields of :class:`memedit.EditDraft` and ``state``.

        Raises:
            EditNotFoundError, EditChangedError, ConflictError, FieldError: nothing was changed.
        """
        return self._changed("PATCH", _path(id), if_version, on_conflict, changes)

    def supersede(
        self, id: str, *, if_version: int | None = None, on_conflict: OnConflict = "error", **changes: Any
    ) -> Edit:
        """Replace an edit by a new one with its own id; the old one is withdrawn. Errors as for :meth:`update`."""
        return self._changed("POST", f"{_path(id)}/supersede", if_version, on_conflict, changes)

    def delete(self, id: str, *, if_version: int | None = None) -> Edit:
        """Withdraw an edit: it no longer answers, is kept, and can be restored. Twice is as once."""
        return edit_of(self._transport.change("DELETE", _path(id), headers=_match(if_version)))

    def restore(self, id: str, *, if_version: int | None = None, on_conflict: OnConflict = "error") -> Edit:
        """Bring a withdrawn edit back into force.

        Raises:
            ConflictError: it contradicts an edit now in force and ``on_conflict`` is "error".
        """
        params = {"on_conflict": on_conflict}
        path = f"{_path(id)}/restore"
        return edit_of(self._transport.change("POST", path, headers=_match(if_version), params=params))

    def block(self, id: str, text: str, *, remove: bool = False, if_version: int | None = None) -> Edit:
        """Teach an edit a text that must not fire it; ``remove`` takes it back. Errors as for :meth:`update`."""
        return self._taught("block", id, text, remove, if_version)

    def also(self, id: str, text: str, *, remove: bool = False, if_version: int | None = None) -> Edit:
        """Teach an edit a text that must fire it too; ``remove`` takes it back. Errors as for :meth:`update`."""
        return self._taught("also", id, text, remove, if_version)

    def possible_conflicts(self, id: str | None = None) -> tuple[PossibleConflict, ...]:
        """Return the pairs of edits that perhaps contradict each other, or those of one edit; the likeliest first."""
        page = self._transport.get("/v1/edits/conflicts", edit=id)
        return tuple(possible_conflict_of(body) for body in page["data"])

    def settle_conflict(self, id: str, other: str, *, same: bool) -> PossibleConflict:
        """Say of a possible conflict whether both edits are one question (the older is withdrawn) or two facts.

        Raises:
            EditNotFoundError: there is none with such an id.
            ServiceError: the two are no possible conflict.
        """
        body = {"edits": [id, other], "same": same}
        return possible_conflict_of(self._transport.change("POST", "/v1/edits/conflicts/settle", json=body))

    def history(self, id: str) -> tuple[EditChange, ...]:
        """Return every change of an edit, oldest first."""
        return tuple(change_of(body) for body in self._transport.get(f"{_path(id)}/history")["data"])

    def as_of(self, when: datetime, *, valid: datetime | None = None) -> Edits:
        """Return the edits that the store held at ``when``, as they were then.

        Args:
            when: a time of the store (timezone-aware).
            valid: only those that hold in the world at this time.
        """
        found: Edits = []
        offset: str | None = "0"
        while offset is not None:
            at, held = _time(when, "when"), None if valid is None else _time(valid, "valid")
            page = self._transport.get("/v1/edits/as-of", at=at, valid=held, offset=offset, limit=_PAGE)
            found += [edit_of(body) for body in page["data"]]
            offset = page["next"]
        return found

    def explain(self, prompt: str | Sequence[Mapping[str, Any]], *, threshold: float | None = None) -> Explanation:
        """Say which edits would fire on a prompt or a chat, and why, without an answer; ``threshold`` is tried."""
        asked = {"prompt": prompt} if isinstance(prompt, str) else {"messages": [dict(m) for m in prompt]}
        response = self._transport.send("POST", "/v1/edits/explain", json={**asked, "threshold": threshold})
        return explanation_of(response.json())

    def export(self, path: str | Path, *, format: str = "jsonl", state: str | None = None) -> int:
        """Write the edits that are not withdrawn to a file, and return how many; forms as for ``EditMemory.export``."""
        params = {"format": format, "state": state}
        with self._transport.opened("GET", "/v1/edits/export", params=params) as response:
            with open(path, "wb") as file:
                for part in response.iter_bytes():
                    file.write(part)
            return int(response.headers["X-Memedit-Count"])

    def import_file(
        self,
        path: str | Path,
        *,
        format: str = "auto",
        paraphrases: bool = False,
        on_conflict: OnConflict = "error",
    ) -> AddResult:
        """Add the edits of a file in one transaction: all of them, or none; as ``EditMemory.import_file``.

        Raises:
            FieldError: a row cannot be used.
            ConflictError: a row contradicts an edit in force and ``on_conflict`` is "error".
        """
        params = {"format": format, "paraphrases": paraphrases, "on_conflict": on_conflict}
        content = Path(path).read_bytes()
        return add_result(self._transport.change("POST", "/v1/edits/import", content=content, params=params))

    def audit(
        self, *, namespace: str | None = None, actor: str | None = None, before: int | None = None, limit: int = 100
    ) -> tuple[AuditEntry, ...]:
        """Return who changed what, newest first; needs a key with the role admin."""
        page = self._transport.get("/v1/audit", namespace=namespace, actor=actor, before=before, limit=limit)
        return tuple(audit_of(body) for body in page["data"])

    def namespaces(self) -> dict[str, dict[str, int]]:
        """Return the namespaces the key may look into, each with how many edits it has in each state."""
        return {body["name"]: body["edits"] for body in self._transport.get("/v1/namespaces")["data"]}

    def _taught(self, how: str, id: str, text: str, remove: bool, if_version: int | None) -> Edit:
        body = {"text": text, "remove": remove}
        headers = _match(if_version)
        return edit_of(self._transport.change("POST", f"{_path(id)}/{how}", json=body, headers=headers))

    def _changed(
        self, method: str, path: str, if_version: int | None, on_conflict: OnConflict, changes: Mapping[str, Any]
    ) -> Edit:
        params = {"on_conflict": on_conflict}
        headers = _match(if_version)
        return edit_of(self._transport.change(method, path, json=_plain(changes), params=params, headers=headers))


def _path(edit_id: str) -> str:
    if not isinstance(edit_id, str) or not edit_id:
        raise InputError(f"id={edit_id!r} is no edit's id")
    return f"/v1/edits/{quote(edit_id, safe='')}"


def _match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _fields(draft: EditDraft | Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: getattr(draft, name) for name in EditDraft.__slots__} if isinstance(draft, EditDraft) else draft


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as JSON takes them."""
    return {name: _json_value(name, value) for name, value in fields.items()}


def _json_value(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return _time(value, name)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _time(when: datetime, name: str) -> str:
    return noticed(when, name).isoformat()
