"""Arrays one after the other in one file, in NumPy's own format, streamed without copies and never unpickled."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import read_array, write_array


def write_arrays(path: Path, *arrays: Any) -> None:
    """Write arrays of plain numbers to ``path``, in order."""
    with path.open("wb") as file:
        for array in arrays:
            write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def read_arrays(path: Path, count: int) -> list[Any]:
    """Read ``count`` arrays back.

    Raises:
        ValueError: the file holds something else, or less.
    """
    with path.open("rb") as file:
        return [read_array(file, allow_pickle=False) for _ in range(count)]
