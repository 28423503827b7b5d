"""A file to drafts: a row that cannot be used stops the import, or is set aside, and is named either way."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from memedit.errors import DatasetError, FieldError, StoreError
from memedit.memory.formats.base import Format, JsonRow, Parsed
from memedit.memory.formats.files import read_rows
from memedit.memory.formats.questions import QuestionsFormat
from memedit.memory.formats.registry import format_named, recognise
from memedit.memory.formats.rows import Place, RawRow, Rows
from memedit.memory.reports import Refused
from memedit.memory.stamps import usable_id
from memedit.memory.validation import check_draft, metadata_json
from memedit.types import EditDraft
from memedit.zones import in_utc, notice


@dataclass(slots=True)
class FileDrafts:
    """The rows of a file: drafts, the ids and states they ask for, where each stands, and what was set aside.

    An id that cannot name an edit here is not asked for; it is kept as ``source_id`` in the metadata.
    """

    path: Path
    drafts: list[EditDraft] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    source: Rows | None = None

    def describe(self, number: int) -> str:
        """Return where a draft comes from, to stand in front of a reason."""
        return f"{self.path}{self.places[number]}: "

    def write_refused(self) -> Path | None:
        """Write the rows that were set aside to a new file beside this one, in its own form, to be mended and imported.

        Raises:
            StoreError: it cannot be written.
        """
        if not self.refused or self.source is None:
            return None
        text = self.source.join([row.text for row in self.refused])
        try:
            for path in _names_beside(self.path, self.source.suffix):
                try:
                    with path.open("x", encoding="utf-8", newline="") as file:
                        file.write(text)
                except FileExistsError:
                    continue
                return path
        except OSError as error:
            raise StoreError(
                f"the rows that cannot be used cannot be written beside {self.path}: {error.strerror or error}; "
                "nothing was imported"
            ) from error
        return None


def _names_beside(path: Path, suffix: str) -> Iterator[Path]:
    stem = path.name.split(".")[0] or path.name
    yield path.with_name(f"{stem}.refused{suffix}")
    number = 2
    while True:
        yield path.with_name(f"{stem}.refused-{number}{suffix}")
        number += 1


def read_drafts(
    path: Path,
    name: str = "auto",
    paraphrases: bool = False,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    skip_invalid: bool = False,
) -> FileDrafts:
    """Read and check every row of a file.

    Args:
        path: a file of JSON, a table or Markdown, packed or not.
        name: a registered format, or "auto" to go by the rows.
        paraphrases: take over published rephrasings.
        columns: what the file calls the fields of an edit, by field.
        encoding: of the file; None finds it.
        skip_invalid: set rows that cannot be used aside instead of stopping at the first.

    Raises:
        DatasetError: the file or a row cannot be used; names file, row and field.
        UnknownNameError: no such format.
        InputError: ``columns`` names a field that edits do not have.
        MissingExtraError: the file is packed in a way that an optional package is needed for.
    """
    given = QuestionsFormat(columns) if columns else None if name == "auto" else format_named(name)
    source = read_rows(path, encoding)
    found = FileDrafts(path, notes=source.notes, source=source)
    reader = _Reader(source, given, paraphrases)
    for raw in source.rows():
        try:
            draft, parsed = reader.read(raw)
        except FieldError as error:
            refused = Refused(raw.place.line, raw.place.row, error.field or None, error.reason, raw.text)
            if not skip_invalid:
                raise raw.place.error(_shown(refused), str(path), refused.field) from error
            found.refused.append(refused)
            continue
        found.drafts.append(draft)
        found.ids.append(parsed.id)
        found.states.append(parsed.state)
        found.places.append(raw.place)
    found.notes += reader.notes
    if found.refused and not found.drafts:
        first = found.refused[0]
        message = f"none of {len(found.refused)} rows can be used; the first: {_shown(first)}"
        raise DatasetError(message, path=str(path), line=first.line, row=first.row, field=first.field)
    return found


class _Reader:
    """Reads rows by the format that is given, else by the one they look like.

    Rows that look like no other format are of the one that the rows before them are.
    """

    def __init__(self, source: Rows, given: Format | None, paraphrases: bool) -> None:
        self._given, self._paraphrases = given, paraphrases
        self.notes: tuple[str, ...] = ()
        self._form: Format = given or format_named("jsonl")
        if given is None and source.columns is not None:
            published = recognise(dict.fromkeys(source.columns, "-"))
            questions = published is None or published is self._form
            self._given = format_named("qa") if questions or published is None else published

    def read(self, raw: RawRow) -> tuple[EditDraft, Parsed]:
        """Return a row's draft.

        Raises:
            FieldError: it cannot be used; the field is named as the file names it.
        """
        if raw.row is None:
            raise FieldError("", raw.problem)
        form = self._of(raw.row)
        names: dict[str, str] = {}
        try:
            parsed = form.parse(raw.row, self._paraphrases)
            names = dict(parsed.names)
            draft = check_draft({**parsed.fields, **self._zoned(parsed.fields, raw.place)})
            metadata_json(draft.metadata)
            if parsed.id and not usable_id(parsed.id):
                draft = replace(draft, metadata={"source_id": parsed.id, **draft.metadata})
                parsed = replace(parsed, id=None)
                metadata_json(draft.metadata)
        except FieldError as error:
            raise FieldError(names.get(error.field, error.field), error.reason) from error
        return draft, parsed

    def _zoned(self, fields: Mapping[str, Any], place: Place) -> dict[str, datetime]:
        """Return the times of a row that have no zone, in UTC; the first of the file makes a note."""
        found = {}
        for name in ("valid_at", "invalid_at"):
            if isinstance(fields.get(name), str):
                with suppress(ValueError):
                    when = datetime.fromisoformat(fields[name])
                    if (told := notice(when)) is not None:
                        found[name] = in_utc(when)
                        self.notes = self.notes or (f"{str(place).removeprefix(', ')}, and others like it: {told}",)
        return found

    def _of(self, row: JsonRow) -> Format:
        if self._given is not None:
            return self._given
        if not self._form.matches(row):
            self._form = recognise(row) or self._form
        return self._form


def _shown(refused: Refused) -> str:
    """Return why a row is refused, with the beginning of its text."""
    text = " ".join(refused.text.split())
    return f"{refused.reason}; the row: {text if len(text) <= 120 else text[:117] + '...'}"
