"""The ledger of a line of versions: append-only, and the truth about which version has which alias.

One JSON object a line in ``ledger.jsonl``. An entry is appended with one write and an fsync; aliases are not stored
anywhere else but worked out from the entries, so that an alias and its entry cannot disagree and moving an alias is one
atomic step. A process killed while it appends leaves at most a line without its end, which readers pass over and the
next writer cuts off. A file was chosen over the edit memory's database because versions are files: a folder of them can
be copied, mounted by an inference engine, and read without the database.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from memedit.errors import StoreCorruptError


class Action(StrEnum):
    """What an entry says happened to its version."""

    MADE = "made"
    """Its folder is there, whole; it is the candidate now."""
    PROMOTED = "promoted"
    """It is the champion now; the champion until then is the previous one."""
    REJECTED = "rejected"
    """It is no candidate any more."""
    ROLLED_BACK = "rolled_back"
    """Champion and previous changed places; the version named is the champion now (None: the plain base)."""
    REMOVED = "removed"
    """Its folder is gone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger; ``version`` is None where the plain base is meant."""

    number: int
    at: datetime
    action: Action
    version: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the entry as plain values."""
        return {
            "number": self.number,
            "at": self.at.isoformat(),
            "action": self.action.value,
            "version": self.version,
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True)
class Aliases:
    """Which version stands under which alias; None for ``champion`` and ``previous`` is the plain base."""

    candidate: str | None = None
    champion: str | None = None
    previous: str | None = None

    def named(self) -> dict[str, str | None]:
        """Return the versions by alias."""
        return {"candidate": self.candidate, "champion": self.champion, "previous": self.previous}


def fold(entries: Iterable[Entry]) -> Aliases:
    """Work out the aliases after all entries."""
    now = Aliases()
    for entry in entries:
        candidate = None if now.candidate == entry.version else now.candidate
        if entry.action is Action.MADE:
            now = Aliases(entry.version, now.champion, now.previous)
        elif entry.action is Action.PROMOTED:
            now = Aliases(candidate, entry.version, now.champion)
        elif entry.action is Action.ROLLED_BACK:
            now = Aliases(now.candidate, entry.version, now.champion)
        else:
            now = Aliases(candidate, now.champion, now.previous)
    return now


class Ledger:
    """The file. Readers need no lock; writers hold the version store's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the file does; None while there is none. Reads nothing."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first; a torn last line is no entry.

        Raises:
            StoreCorruptError: a line is not an entry, or entries are missing.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        found = [self._entry(number, line) for number, line in enumerate(whole.splitlines(), start=1)]
        return found

    def append(self, action: Action, version: str | None, detail: Mapping[str, Any] | None = None) -> Entry:
        """Write one entry; when this returns it has reached the disk."""
        entries = self.entries()
        entry = Entry(len(entries) + 1, datetime.now(UTC), action, version, detail or {})
        line = json.dumps(entry.as_json(), ensure_ascii=False, sort_keys=True, allow_nan=False).encode() + b"\n"
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            end = _end_of_whole_lines(handle)
            os.ftruncate(handle, end)
            written = os.pwrite(handle, line, end)
            if written != len(line):
                raise OSError(f"{self.path}: only {written} of {len(line)} bytes could be written")
            os.fsync(handle)
        finally:
            os.close(handle)
        return entry

    def _entry(self, number: int, line: bytes) -> Entry:
        try:
            fields = json.loads(line)
            entry = Entry(
                int(fields["number"]),
                datetime.fromisoformat(fields["at"]),
                Action(fields["action"]),
                fields["version"],
                fields["detail"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorruptError(f"{self.path}, line {number}, is no entry of a ledger: {error}") from error
        if entry.number != number:
            raise StoreCorruptError(f"{self.path}, line {number}, has number {entry.number}: lines are missing")
        return entry


def _end_of_whole_lines(handle: int) -> int:
    size = os.fstat(handle).st_size
    return os.pread(handle, size, 0).rfind(b"\n") + 1
