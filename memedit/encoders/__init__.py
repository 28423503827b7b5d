"""Sentence encoders: text to unit vectors ``[n, d]``. Importing this loads no model and no torch."""

from memedit.encoders.base import Encoder
from memedit.encoders.finding import ENCODER_ALIASES, find_encoder
from memedit.encoders.fingerprint import encoder_fingerprint
from memedit.encoders.loading import load_encoder
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
