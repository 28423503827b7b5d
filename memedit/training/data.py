"""Facts from data files for training."""

from collections.abc import Sequence
from pathlib import Path

from memedit.errors import DatasetError
from memedit.evaluation.datasets.splits import is_training_row
from memedit.training.reader.facts import Fact, read_facts


def load_facts(halves: Sequence[Path | str], *, whole: Sequence[Path | str] = ()) -> list[Fact]:
    """Read record files: the training half of ``halves``, every row of ``whole``.

    A path may end in ``:N``: only the first N rows of the file are read.

    Raises:
        DatasetError: a file does not exist or cannot be read, or there is nothing to train on.
    """
    facts = [fact for item in halves for fact in _rows(item) if is_training_row(fact.prompt)]
    facts += [fact for item in whole for fact in _rows(item)]
    if not facts:
        names = ", ".join(str(item) for item in [*halves, *whole]) or "(no files)"
        raise DatasetError("no rows to train on", path=names)
    return facts


def _rows(item: Path | str) -> list[Fact]:
    head, _, count = str(item).rpartition(":")
    path, limit = (Path(head), int(count)) if head and count.isdigit() else (Path(item), None)
    if not path.is_file():
        raise DatasetError("no such file; give record files (.jsonl)", path=str(path))
    return read_facts(path)[:limit]
