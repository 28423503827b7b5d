"""One loader for each published form of editing data."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memedit.errors import DatasetError, InputError
from memedit.evaluation.cases import Case
from memedit.evaluation.datasets.reading import Record, read_records
from memedit.registry import Registry

FORMATS: Registry[Callable[[Record], Case]] = Registry("data format")
"""Published forms by name; each is a function from one record to its case."""
_FIELDS = {
    "counterfact": ("prompt", "target_new", "subject", "rephrase_prompt", "locality_prompt", "ground_truth"),
    "zsre": ("src", "alt", "rephrase", "loc"),
    "wikibigedit": ("prompt", "target_new", "subject", "rephrase_prompt", "locality_prompt"),
    "knowedit": ("prompt", "target_new", "subject", "portability", "locality"),
    "qaedit": ("prompt", "target", "rephrase", "locality"),
    "mquake": ("requested_rewrite", "questions", "new_answer"),
    "unke": ("question", "para_question", "answer"),
    "wikibio": ("text", "labels", "concept"),
    "hierarchy": ("hyponym", "hypernym", "above", "target"),
}
"""Fields by which a form is known, the most telling forms first."""
for _name in _FIELDS:
    FORMATS.register(_name, f"memedit.evaluation.datasets.{_name}:parse")


SHIPPED = {"hierarchy": Path(__file__).with_name("hierarchy.jsonl")}
"""Data that come with memedit, by the name that goes for a path."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file to evaluate on: its path, the form it has, and what it is called in the results."""

    path: Path
    format: str
    name: str


def read_cases(path: str | Path, format: str, *, limit: int | None = None) -> Iterator[Case]:
    """Yield the cases of a data file in its order, until ``limit`` edits have been yielded.

    A case with several edits that would go over the limit ends the reading.

    Raises:
        DatasetError: the file or one of its rows is wrong; the message names file, line and field.
        UnknownNameError: no such format.
        InputError: ``limit`` is not positive.
    """
    if limit is not None and limit < 1:
        raise InputError(f"number of edits must be at least 1, got {limit}")
    parse = FORMATS.get(format)
    edits = 0
    for record in read_records(path):
        case = parse(record)
        edits += len(case.edits)
        if limit is not None and edits > limit:
            return
        yield case
        if edits == limit:
            return


def guess_format(path: str | Path) -> str:
    """Return the format whose fields the first row of the file has.

    Raises:
        DatasetError: the file cannot be read or its first row has the fields of no known form.
    """
    record = next(read_records(path))
    if record.has("requested_rewrite") and record.has("paraphrase_prompts"):
        return "counterfact"
    for name, fields in _FIELDS.items():
        if all(field in record.values for field in fields):
            return name
    raise DatasetError(
        f"the fields {', '.join(record.values)} are those of no known form ({', '.join(_FIELDS)}); "
        "name the form with --format",
        path=Path(path).name,
        line=record.line,
    )


def name_files(paths: list[Path], formats: list[str]) -> list[DataFile]:
    """Name data files for the results: after their form, and by form/file where two files share one.

    ``formats`` has one name for each path, or one for all of them, or none ("auto" and none are guessed).

    Raises:
        InputError: the numbers do not fit, or two files would have one name.
    """
    if len(formats) not in (0, 1, len(paths)):
        raise InputError(f"{len(paths)} data files but {len(formats)} formats; give one for each, or one for all")
    paths = [SHIPPED.get(str(path), path) if not path.exists() else path for path in paths]
    wanted = formats if len(formats) == len(paths) else (formats or ["auto"]) * len(paths)
    known = [guess_format(p) if f == "auto" else f for p, f in zip(paths, wanted, strict=True)]
    for name in known:
        FORMATS.get(name)
    names = [f if known.count(f) == 1 else f"{f}/{p.stem}" for p, f in zip(paths, known, strict=True)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"two data files would both be called {', '.join(doubled)}; rename one or run them apart")
    return [DataFile(p, f, n) for p, f, n in zip(paths, known, names, strict=True)]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
