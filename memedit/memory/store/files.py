"""Whether a database's file is still the one that was opened: SQLite itself goes on writing into a deleted file."""

import os
from pathlib import Path

from memedit.errors import StoreUnavailableError


class OpenFile:
    """Remembers which file was opened at a path, and notices when another one, or none, is there.

    Args:
        path: of the file; None where there is none (memory, or a server).
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._log = None if path is None else path.with_name(path.name + "-wal")
        self._known: tuple[int, int] | None = None
        self._logged = False

    def opened(self) -> None:
        """Take the file that is there now as the one that is meant."""
        if self._path is not None:
            self._known = _identity(self._path)
            self._logged = self._log is not None and self._log.exists()

    def check(self, *, written: bool = False) -> None:
        """Look whether it is still there.

        Args:
            written: a change has been committed just now.

        Raises:
            StoreUnavailableError: it is gone, another one, or its log is gone.
        """
        if self._known is None or self._path is None:
            return
        found = _identity(self._path)
        if found == self._known and not (self._logged and self._log is not None and not self._log.exists()):
            return
        what = "was deleted or moved away" if found is None else "was replaced by another file"
        if found == self._known:
            what = f"has lost its log {self._path.name}-wal"
        lost = "the last change may be lost" if written else "nothing was written"
        raise StoreUnavailableError(
            f"{self._path} {what} while it was open; {lost}. Put the file back, or a copy of it, and start this "
            "process again: until then it takes no changes",
            uncertain=written,
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
