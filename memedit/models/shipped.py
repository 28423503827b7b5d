"""Trained weights that ship for known bases: a folder a base, found by the base's configuration.

What the default needs lies in memedit itself. The weights of RECIPE, SERAC and ELDER are a distribution of their own,
so that those who use none of them need not download them; it is located, never imported.
"""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memedit.errors import ModelNotFoundError
from memedit.models.fingerprint import config_digest

DISTRIBUTION, _PACKAGE = "memedit-weights", "memedit_weights"
INSTALL = f"pip install {DISTRIBUTION} (in a checkout: pip install -e packages/{DISTRIBUTION})"


def shipped_folders(method: str, record: str) -> list[Path]:
    """Return the folders of a method's trained weights, by name of their base; each holds a file ``record``."""
    return sorted(
        (path.parent for root in _roots() for path in root.glob(f"{method}/*/{record}")), key=lambda f: f.name
    )


def shipped_weights(method: str, record: str, model: Any, *, otherwise: str) -> Path:
    """Return the folder of the weights that a method has for a base of this model's configuration.

    Args:
        method: name of the method's folder.
        record: name of the JSON file in each folder, whose ``base.config`` is the digest of the base's configuration.
        model: the base.
        otherwise: what to do where there are none, for the error's message.

    Raises:
        ModelNotFoundError: there are none; the message says whether the distribution is absent, or lists the bases.
    """
    wanted, known = config_digest(model.config), []
    for folder in shipped_folders(method, record):
        known.append(folder.name)
        if json.loads((folder / record).read_text(encoding="utf-8"))["base"]["config"] == wanted:
            return folder
    kind = getattr(model.config, "model_type", type(model).__name__)
    raise ModelNotFoundError(
        f"no {method} weights ship for {kind!r} of this configuration ({_there_are(known)}); {otherwise}"
    )


def no_shipped(method: str, record: str) -> str:
    """Return words for the message of an error: which bases ``method`` has weights for, or what to install."""
    return _there_are([folder.name for folder in shipped_folders(method, record)])


def _there_are(known: list[str]) -> str:
    if known:
        return f"there are: {', '.join(known)}"
    return f"the weights are a package of their own, which is not installed: {INSTALL}"


def _roots() -> Iterator[Path]:
    spec = importlib.util.find_spec(_PACKAGE)
    yield from map(Path, spec.submodule_search_locations or () if spec is not None else ())
