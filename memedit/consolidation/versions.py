"""Versions of a model: folders that plain transformers loads, aliases, and the ledger that moves them.

::

    ROOT/
      ledger.jsonl     the truth: what was made, promoted, rolled back (see ledger.py)
      v0001/           config, weights and tokenizer as save_pretrained leaves them; memedit_version.json says which
                       edits are in the weights, delta.safetensors by how much, memedit_files.json what must be there
      champion         symbolic links to the versions under these aliases, for programs that want a path; they follow
      previous         the ledger
      candidate

A version's folder is filled under another name, flushed to the disk and renamed: it is there whole or not at all. A
kill at any moment leaves the old aliases or the new ones.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from memedit.consolidation.ledger import Action, Aliases, Entry, Ledger, fold
from memedit.consolidation.records import VersionRecord, read_record
from memedit.errors import ModelNotFoundError, StoreBusyError, StoreCorruptError, StoreError
from memedit.registry import unknown_name_message

FILES = "memedit_files.json"
_NAME = re.compile(r"v(\d{4,})")
_PARTIAL = ".partial"
_LOCK_SECONDS = 60.0


def is_version_name(name: str) -> bool:
    """Say whether a model's name can only be meant as a version or an alias of one."""
    return name in Aliases().named() or _NAME.fullmatch(name) is not None


class VersionStore:
    """A line of versions of one base model for one namespace of a memory.

    Args:
        root: its folder; made with the first version.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._ledger = Ledger(self.root / "ledger.jsonl")

    def names(self) -> list[str]:
        """Return the versions whose folders are there, oldest first."""
        if not self.root.is_dir():
            return []
        found = (path.name for path in self.root.iterdir() if path.is_dir() and not path.is_symlink())
        return sorted(name for name in found if _NAME.fullmatch(name))

    def entries(self) -> list[Entry]:
        """Return the ledger, oldest entry first.

        Raises:
            StoreCorruptError: the file is damaged.
        """
        return self._ledger.entries()

    def stamp(self) -> object:
        """Return what is another one after every change of ledger and aliases; cheap enough to ask every second."""
        return self._ledger.stamp()

    def aliases(self) -> Aliases:
        """Return which version is candidate, champion and previous."""
        return fold(self.entries())

    def resolve(self, name: str) -> str:
        """Return the version of a name or alias.

        Raises:
            ModelNotFoundError: there is none; lists what there is.
        """
        aliases = self.aliases().named()
        if name in aliases:
            found = aliases[name]
            if found is None:
                raise ModelNotFoundError(
                    f"no version is the {name} in {self.root}: it is the plain base model; "
                    "`memedit consolidate` makes a version, `memedit versions list` shows what there is"
                )
            return found
        if name in self.names():
            return name
        raise ModelNotFoundError(unknown_name_message("version", name, [*self.names(), *aliases]))

    def folder(self, name: str) -> Path:
        """Return the folder of a version or alias.

        Raises:
            ModelNotFoundError: there is no such version.
        """
        return self.root / self.resolve(name)

    def checked(self, name: str, files: Collection[str]) -> Path:
        """Return the folder of a version or alias, having made sure that these of its files are as they were written.

        Raises:
            ModelNotFoundError: there is no such version.
            StoreCorruptError: one of the files is missing or has changed.
        """
        folder = self.folder(name)
        problems = _unsealed(folder, files)
        if problems:
            raise StoreCorruptError(
                f"version {folder.name} is damaged ({'; '.join(problems)}); put its files back, or consolidate again"
            )
        return folder

    def record(self, name: str) -> VersionRecord:
        """Return what a version or alias says of itself.

        Raises:
            ModelNotFoundError: there is no such version, or its folder has no record.
        """
        folder = self.folder(name)
        found = read_record(folder)
        if found is None:
            raise ModelNotFoundError(f"{folder} holds no version made by memedit (its record is missing)")
        return found

    def champion(self) -> VersionRecord | None:
        """Return the champion's record, None when the plain base is the champion."""
        name = self.aliases().champion
        return None if name is None else self.record(name)

    def make(self, build: Callable[[str, Path], None], detail: Mapping[str, Any] | None = None) -> str:
        """Make the next version and return its name; it is the candidate then.

        Args:
            build: called with the version's name and an empty folder to fill.
            detail: for the ledger.

        Raises:
            StoreError: the folder cannot be written; nothing has changed.
        """
        with self._locked():
            name = self._next_name()
            working = self.root / f"{name}{_PARTIAL}"
            try:
                working.mkdir()
                build(name, working)
                _seal(working)
                os.rename(working, self.root / name)
                _sync_folder(self.root)
            except OSError as error:
                raise StoreError(f"cannot write version {name} to {self.root}: {error}; nothing was changed") from error
            finally:
                shutil.rmtree(working, ignore_errors=True)
            self._write(Action.MADE, name, detail)
        return name

    def promote(self, name: str | None, detail: Mapping[str, Any] | None = None) -> Aliases:
        """Make a version (None: the plain base) the champion; the champion until now becomes the previous one."""
        with self._locked():
            name = None if name is None else self.resolve(name)
            if self.aliases().champion != name:
                self._write(Action.PROMOTED, name, detail)
            return self.aliases()

    def reject(self, name: str, detail: Mapping[str, Any] | None = None) -> Aliases:
        """Take the candidate's alias from a version; its folder stays, for people to look at."""
        with self._locked():
            self._write(Action.REJECTED, self.resolve(name), detail)
            return self.aliases()

    def rollback(self, detail: Mapping[str, Any] | None = None) -> Aliases:
        """Let the previous version (or the plain base) and the champion change places.

        Raises:
            StoreError: there never was a champion.
        """
        with self._locked():
            aliases = self.aliases()
            if aliases.champion is None and aliases.previous is None:
                raise StoreError(f"nothing to roll back in {self.root}: no version was ever promoted")
            self._write(Action.ROLLED_BACK, aliases.previous, detail)
            return self.aliases()

    def prune(self, keep: int = 3) -> list[str]:
        """Remove the folders of all but the newest ``keep`` versions and those with an alias; return their names."""
        with self._locked():
            kept = {*self.names()[-keep:], *self.aliases().named().values()} if keep else set(self._aliased())
            removed = [name for name in self.names() if name not in kept]
            for name in removed:
                self._remove(name)
                self._write(Action.REMOVED, name, None)
            return removed

    def settle(self) -> None:
        """Clear away what a killed writer left, and let the links follow the ledger."""
        with self._locked():
            pass

    def problems(self) -> list[str]:
        """Look for what should not be: versions under an alias that are missing, files that are missing or changed."""
        found = [
            f"{alias} is {name}, whose folder is missing"
            for alias, name in self.aliases().named().items()
            if name is not None and name not in self.names()
        ]
        for name in self.names():
            found += [f"{name}: {problem}" for problem in _unsealed(self.root / name)]
        return found

    def _remove(self, name: str) -> None:
        """Remove a folder; out of sight first, since a kill must not leave half a version under its name."""
        aside = self.root / f"{name}{_PARTIAL}"
        os.rename(self.root / name, aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _aliased(self) -> list[str]:
        return [name for name in self.aliases().named().values() if name is not None]

    def _next_name(self) -> str:
        mentioned = [entry.version for entry in self.entries() if entry.version is not None]
        numbers = [int(found[1]) for name in (*mentioned, *self.names()) if (found := _NAME.fullmatch(name))]
        return f"v{max(numbers, default=0) + 1:04d}"

    def _write(self, action: Action, version: str | None, detail: Mapping[str, Any] | None) -> None:
        self._ledger.append(action, version, detail)
        self._link()

    def _link(self) -> None:
        """Let the symbolic links follow the ledger; where the file system has none, there are none."""
        for alias, version in self.aliases().named().items():
            link, new = self.root / alias, self.root / f".{alias}.new"
            with contextlib.suppress(OSError):
                if version is None:
                    link.unlink(missing_ok=True)
                elif not link.is_symlink() or os.readlink(link) != version:
                    new.unlink(missing_ok=True)
                    new.symlink_to(version)
                    os.replace(new, link)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the writers' lock; what a killed writer left is cleared away first."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / ".lock", timeout=_LOCK_SECONDS):
                for leftover in self.root.glob(f"v*{_PARTIAL}"):
                    shutil.rmtree(leftover, ignore_errors=True)
                self._finish_interrupted()
                yield
        except Timeout as error:
            raise StoreBusyError(f"another process is changing the versions in {self.root}; try again later") from error

    def _finish_interrupted(self) -> None:
        """Take away what was renamed into place by a writer that was killed before its entry: nobody was told of it."""
        made = {entry.version for entry in self.entries() if entry.action is Action.MADE}
        for name in self.names():
            if name not in made:
                self._remove(name)
        self._link()


def _seal(folder: Path) -> None:
    """Write down what the folder must hold and flush everything to the disk."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / FILES).write_text(json.dumps(files, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    _sync_folder(folder)


def _unsealed(folder: Path, only: Collection[str] | None = None) -> list[str]:
    """Return what is wrong with the files of a sealed folder, or with these of them."""
    try:
        files = json.loads((folder / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"{FILES} cannot be read: {error}"]
    problems = [] if only is None else [f"{FILES} does not list {name}" for name in only if name not in files]
    for name, wanted in files.items():
        if only is not None and name not in only:
            continue
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != wanted["bytes"] or _sha256(path) != wanted["sha256"]:
            problems.append(f"{name} has changed")
    return problems


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
