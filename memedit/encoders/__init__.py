"""Sentence encoders: text to unit vectors ``[n, d]``."""

from memedit.encoders.base import Encoder

__all__ = ["Encoder"]
