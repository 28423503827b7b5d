"""What was measured on a model, kept in files under a key: read when the key is right, made anew otherwise."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from memedit.errors import InputError
from memedit.models import cache_home
from memedit.whole_files import write_whole

T = TypeVar("T")
_log = logging.getLogger(__name__)


def kept_file(kind: str, key: str, store: Path | None) -> Path:
    """Return the file for a key; ``store`` None is the folder ``kind`` under :func:`~memedit.cache.cache_home`."""
    return (cache_home() / kind if store is None else store) / f"{key[:32]}.safetensors"


def read_kept(path: Path, key: str, build: Callable[[dict[str, Tensor], dict[str, str]], T]) -> T | None:
    """Return what ``build`` makes of a file's tensors and header; None when no whole file lies there under this key."""
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            if header.get("key") != key:
                return None
            return build({name: file.get_tensor(name) for name in file.keys()}, header)  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, ValueError):
        return None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file whole: a kill leaves the old one or the new one.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_whole(path, lambda partial: save_file(dict(tensors), partial, metadata=dict(header)))
    except OSError as error:
        raise InputError(
            f"what was measured on the model cannot be written to {path.parent}: {error}; choose another folder"
        ) from error


def keep_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write what only saves time: where it cannot be written, the log says so and work goes on."""
    try:
        write_tensors(path, tensors, header)
    except InputError as error:
        _log.warning("%s", error)
