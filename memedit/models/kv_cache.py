"""What a model's forward pass calls its key-value cache."""

import inspect
from typing import Any

NAMES = ("cache", "past_key_values")
"""Of transformers from 5.24 on, and before."""


def cache_name(model: Any) -> str | None:
    """Return the name of the argument, and of the output, that holds the key-value cache; None when it takes none."""
    takes = inspect.signature(model.forward).parameters
    return next((name for name in NAMES if name in takes), None)


def cache_argument(model: Any, cache: Any) -> dict[str, Any]:
    """Return a key-value cache as a keyword argument of the forward pass."""
    return {cache_name(model) or NAMES[-1]: cache}
