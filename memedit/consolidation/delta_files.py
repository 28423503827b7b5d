"""Weight deltas on disk: one safetensors file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from memedit.errors import InputError
from memedit.types import WeightDelta, WeightTerm

_HEADER = "memedit_delta"
_PARTS = ("up", "down", "dense")


def save_delta(delta: WeightDelta, path: Path) -> None:
    """Write a delta; each change lies in its factors or in full, whichever is smaller."""
    tensors: dict[str, Any] = {}
    for name, term in delta.terms.items():
        for part, matrix in _smaller(term).items():
            tensors[f"{name}|{part}"] = np.ascontiguousarray(matrix)
    header = {"base": delta.base, "method": delta.method, "settings": delta.settings, "edits": list(delta.edits)}
    save_file(tensors, path, metadata={_HEADER: json.dumps(header)})


def load_delta(path: Path) -> WeightDelta:
    """Read what :func:`save_delta` wrote.

    Raises:
        InputError: the file is missing, damaged or no delta.
    """
    try:
        with safe_open(path, framework="np") as source:
            header = json.loads((source.metadata() or {})[_HEADER])
            parts: dict[str, dict[str, Any]] = {}
            for key in source.keys():  # noqa: SIM118 (not a mapping)
                name, _, part = key.rpartition("|")
                parts.setdefault(name, {})[part] = source.get_tensor(key)
        return WeightDelta(
            base=header["base"],
            method=header["method"],
            settings=header["settings"],
            edits=tuple(header["edits"]),
            terms={name: WeightTerm(**found) for name, found in parts.items()},
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a weight delta: {type(error).__name__}: {error}") from error


def _smaller(term: WeightTerm) -> dict[str, Any]:
    given = {part: getattr(term, part) for part in _PARTS if getattr(term, part) is not None}
    if term.dense is None:
        up, down = term.factors
        if up.size + down.size > term.shape[0] * term.shape[1]:
            return {"dense": term.matrix()}
    return given
