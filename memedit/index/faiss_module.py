"""FAISS, imported when it is first needed: it takes a third of a second and its stubs lag behind its functions."""

import importlib
from typing import Any


def faiss_module() -> Any:
    """Import FAISS."""
    return importlib.import_module("faiss")
