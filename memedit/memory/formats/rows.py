"""The rows of a file, whatever their form: where each stands, how it reads there, and what it holds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from memedit.errors import DatasetError, place_in_file
from memedit.memory.formats.base import JsonRow


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: its line and, in a file whose rows are not lines, its number; both count from 1."""

    line: int
    row: int | None = None

    def __str__(self) -> str:
        return place_in_file(line=self.line, row=self.row)

    def error(self, message: str, path: str, field: str | None = None) -> DatasetError:
        """Return the error that names this place."""
        return DatasetError(message, path=path, line=self.line, row=self.row, field=field)


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as the file has it: ``text`` to the letter, ``row`` its fields, or ``problem`` why there are none."""

    place: Place
    text: str
    row: JsonRow | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one file.

    ``rows`` makes them one by one. ``columns`` are a table's, None where every row names its own fields. ``join`` makes
    the text of a file of the same form from some of the rows, and ``suffix`` is how its name ends. ``notes`` say what
    was guessed or left out.
    """

    rows: Callable[[], Iterator[RawRow]]
    join: Callable[[Sequence[str]], str]
    suffix: str
    columns: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def as_lines(texts: Sequence[str]) -> str:
    """Return texts as lines of a file."""
    return "".join(f"{text}\n" for text in texts)
