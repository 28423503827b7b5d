"""Sentence encoders: text to unit vectors ``[n, d]``. Importing this loads no model and no torch."""

from memedit.encoders.base import Encoder
from memedit.encoders.loading import ENCODER_ALIASES, encoder_fingerprint, find_encoder, load_encoder
from memedit.encoders.windows import split_long, split_sentences

__all__ = [
    "ENCODER_ALIASES",
    "Encoder",
    "encoder_fingerprint",
    "find_encoder",
    "load_encoder",
    "split_long",
    "split_sentences",
]
