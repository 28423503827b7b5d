"""A file to drafts, strictly: a row that cannot be used stops the import and is named."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from memedit.errors import DatasetError, FieldError
from memedit.memory.drafts import check_draft, metadata_json
from memedit.memory.formats.base import Format, JsonRow
from memedit.memory.formats.files import numbered_rows
from memedit.memory.formats.registry import format_named, recognise
from memedit.memory.ids import usable_id
from memedit.types import EditDraft


@dataclass(frozen=True, slots=True)
class FileDrafts:
    """The rows of a file: drafts, the ids and states they ask for, and where each stands.

    An id that cannot name an edit here is not asked for; it is kept as ``source_id`` in the metadata.
    """

    drafts: list[EditDraft]
    ids: list[str | None]
    states: list[str]
    describe: Callable[[int], str]


def read_drafts(path: Path, name: str, paraphrases: bool = False) -> FileDrafts:
    """Read and check every row of a file.

    Args:
        path: a JSONL or JSON file.
        name: a registered format, or "auto" to go by the first row.
        paraphrases: take over published rephrasings.

    Raises:
        DatasetError: the file or a row cannot be used; names file, line and field.
        UnknownNameError: no such format.
    """
    found = None if name == "auto" else format_named(name)
    drafts: list[EditDraft] = []
    ids: list[str | None] = []
    states: list[str] = []
    lines: list[int] = []
    for line, row in numbered_rows(path):
        found = found or recognise(row)
        draft, edit_id, state = _read_row(found, row, paraphrases, path, line)
        drafts.append(draft)
        ids.append(edit_id)
        states.append(state)
        lines.append(line)
    return FileDrafts(drafts, ids, states, lambda i: f"{path}, line {lines[i]}: ")


def _read_row(
    form: Format, row: JsonRow, paraphrases: bool, path: Path, line: int
) -> tuple[EditDraft, str | None, str]:
    names = {}
    try:
        parsed = form.parse(row, paraphrases)
        names = dict(parsed.names)
        edit_id = parsed.id if parsed.id and usable_id(parsed.id) else None
        draft = check_draft(parsed.fields)
        if parsed.id and edit_id is None:
            metadata_json(draft.metadata)
            draft = replace(draft, metadata={"source_id": parsed.id, **draft.metadata})
        metadata_json(draft.metadata)
    except FieldError as error:
        field = names.get(error.field, error.field)
        raise DatasetError(error.reason, path=str(path), line=line, field=field) from error
    return draft, edit_id, parsed.state
