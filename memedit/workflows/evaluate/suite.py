"""The data-set suite: every data file of a folder in one run."""

from pathlib import Path

from memedit.errors import DatasetError, InputError
from memedit.evaluation.datasets import DataFile, guess_format, name_files


def suite_files(folder: Path) -> list[DataFile]:
    """Return the data files directly in ``folder`` whose form is known, by name; other files are left out.

    Raises:
        InputError: there is no such folder, or no file of a known form in it.
    """
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder; give the folder that holds the data files")
    paths, formats, left_out = [], [], []
    for path in sorted((*folder.glob("*.jsonl"), *folder.glob("*.json"))):
        try:
            formats.append(guess_format(path))
            paths.append(path)
        except DatasetError as error:
            left_out.append(str(error))
    if not paths:
        reasons = "; ".join(left_out[:3]) or "it has no .jsonl or .json files"
        raise InputError(f"no data file of a known form in {folder.name!r}: {reasons}")
    return name_files(paths, formats)
