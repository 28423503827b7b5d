"""One lazy registry per kind of component; a wrong name answers with near matches."""

import difflib
import importlib
from collections.abc import Iterator
from typing import Generic, TypeVar

from memedit.errors import InputError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names mapped to ``"module:attribute"`` paths, imported when first asked for.

    Args:
        kind: what the names stand for, used in messages ("adapter", "scope", "data format").
        group: entry points of this group, of whatever is installed, are further names; what is registered here goes
            before them. They are looked up when a name is not registered here, or all are asked for.
    """

    def __init__(self, kind: str, *, group: str | None = None) -> None:
        self.kind = kind
        self._group = group
        self._paths: dict[str, str] = {}

    def register(self, name: str, path: str) -> None:
        """Add ``name`` for the object at ``path`` (``"package.module:attribute"``).

        Raises:
            InputError: the name is taken or the path has no attribute part.
        """
        if name in self._paths:
            raise InputError(f"{self.kind} {name!r} is registered already, as {self._paths[name]}")
        if path.count(":") != 1:
            raise InputError(f"{self.kind} {name!r}: {path!r} is not of the form 'package.module:attribute'")
        self._paths[name] = path

    def get(self, name: str) -> T:
        """Import and return the object registered as ``name``.

        Raises:
            UnknownNameError: nothing is registered under this name; the message lists near matches.
            InputError: another package offers the name, and what it names cannot be imported.
        """
        module, attribute = self.path(name).split(":")
        try:
            found: T = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if name in self._paths:
                raise
            raise InputError(
                f"{self.kind} {name!r} is offered by an installed package as {module}:{attribute}, which cannot be "
                f"imported: {error}; mend or uninstall that package"
            ) from error
        return found

    def path(self, name: str) -> str:
        """Return the ``"module:attribute"`` path of ``name`` without importing it.

        Raises:
            UnknownNameError: nothing is registered under this name.
        """
        found = self._paths.get(name) or self._offered().get(name)
        if found is None:
            raise UnknownNameError(unknown_name_message(self.kind, name, list(self)))
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._paths or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        return iter(self._offered() | self._paths)

    def _offered(self) -> dict[str, str]:
        """Return what installed packages offer under the group: name to path."""
        if self._group is None:
            return {}
        from importlib.metadata import entry_points  # takes 30 ms

        return {entry.name: entry.value for entry in entry_points(group=self._group) if entry.value.count(":") == 1}


def unknown_name_message(kind: str, name: str, known: list[str]) -> str:
    """Say that ``name`` is unknown, which names come near it, and which exist."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}known: {', '.join(sorted(known)) or 'none'}"
