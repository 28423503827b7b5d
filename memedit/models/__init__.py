"""Language models: loading by name, what they are made of, and what of memedit works with them."""

from memedit.cache import cache_home
from memedit.models.aliases import ALIASES, PackagedModel
from memedit.models.chat import ChatLayout, chat_layout, render_chat
from memedit.models.check import ModelReport, check_model
from memedit.models.fingerprint import model_fingerprint
from memedit.models.loading import LoadedModel, load_model
from memedit.models.spec import LinearSpec, ModelSpec
from memedit.models.tokenizers import barred_ids, control_ids, encode_as_data, encode_with_spans, prepare_tokenizer

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
