"""Names of files that may ship with memedit, as typer reads them from the command line."""

from collections.abc import Callable
from pathlib import Path

import typer


def file_or_shipped(folder: str) -> Callable[[str], Path]:
    """Return a parser of file names: one's own file, or the one of this name in the ``folder`` that ships."""

    def parse(value: str) -> Path:
        from memedit.errors import InputError
        from memedit.shipped_files import find_file

        try:
            path = find_file(Path(value), folder)
        except InputError as error:
            raise typer.BadParameter(str(error)) from error
        if path.is_dir():
            raise typer.BadParameter(f"{value!r} is a folder; name a file")
        return path

    return parse
