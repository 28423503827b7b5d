"""Files that ship with memedit beside its code: settings (``configs/``) and edit memories as text (``indexes/``)."""

import difflib
from pathlib import Path

from memedit.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """Return the folder ``configs`` or ``indexes``: inside an installed package, beside the package in a checkout.

    Raises:
        InputError: the installation holds none.
    """
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise InputError(
        f"this installation of memedit holds no {name}; reinstall it: pip install --force-reinstall memedit"
    )


def find_file(path: Path, folder: str) -> Path:
    """Return ``path`` where it exists, else the shipped file of this name.

    A shipped file is named from its folder on: ``configs/scope/cautious.yaml``, or ``scope/cautious`` for short.

    Raises:
        InputError: neither exists; the message lists near matches.
    """
    if path.exists():
        return path
    root = shipped_folder(folder)
    files = {file.relative_to(root).as_posix(): file for file in sorted(root.rglob("*")) if file.is_file()}
    names = files | {name.rpartition(".")[0]: file for name, file in files.items()}
    wanted = path.as_posix().removeprefix(f"{folder}/")
    if wanted in names:
        return names[wanted]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"there is no file {str(path)!r}, and none ships by this name; {hint}shipped: {', '.join(files)}")
