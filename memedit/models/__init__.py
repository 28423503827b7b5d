"""Language models: loading by name, what they are made of, and what of memedit works with them.

The names are imported lazily, so that reading a prompt's turns does not import the library that holds every model.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memedit.cache import cache_home
    from memedit.models.aliases import ALIASES, PackagedModel
    from memedit.models.chat import ChatLayout, chat_layout, render_chat
    from memedit.models.check import ModelReport, check_model
    from memedit.models.fingerprint import model_fingerprint
    from memedit.models.loading import LoadedModel, load_model
    from memedit.models.spec import LinearSpec, ModelSpec
    from memedit.models.tokenizers import barred_ids, control_ids, encode_as_data, encode_with_spans, prepare_tokenizer

_MODULES = {
    "memedit.cache": ("cache_home",),
    "memedit.models.aliases": ("ALIASES", "PackagedModel"),
    "memedit.models.chat": ("ChatLayout", "chat_layout", "render_chat"),
    "memedit.models.check": ("ModelReport", "check_model"),
    "memedit.models.fingerprint": ("model_fingerprint",),
    "memedit.models.loading": ("LoadedModel", "load_model"),
    "memedit.models.spec": ("LinearSpec", "ModelSpec"),
    "memedit.models.tokenizers": (
        "barred_ids", "control_ids", "encode_as_data", "encode_with_spans", "prepare_tokenizer",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ALIASES",
    "ChatLayout",
    "LinearSpec",
    "LoadedModel",
    "ModelReport",
    "ModelSpec",
    "PackagedModel",
    "barred_ids",
    "cache_home",
    "chat_layout",
    "check_model",
    "control_ids",
    "encode_as_data",
    "encode_with_spans",
    "load_model",
    "model_fingerprint",
    "prepare_tokenizer",
    "render_chat",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
