"""The memory's encoder, loaded when it is first needed."""

import threading
from collections.abc import Iterable

import numpy as np

from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.types import FloatArray


class EncoderSource:
    """Holds an encoder, or the name of one and loads it at first need (a language memory of text alone needs none)."""

    def __init__(self, encoder: Encoder | str) -> None:
        if not isinstance(encoder, str | Encoder):
            raise InputError(f"encoder {encoder!r} is neither a name nor an Encoder")
        self._lock = threading.Lock()
        self._name = encoder if isinstance(encoder, str) else encoder.name
        self._encoder = None if isinstance(encoder, str) else encoder

    @property
    def name(self) -> str:
        """Name it is loaded by."""
        return self._name

    @property
    def loaded(self) -> bool:
        """Whether the encoder is there already."""
        return self._encoder is not None

    def get(self) -> Encoder:
        """Return the encoder, loading it the first time."""
        with self._lock:
            if self._encoder is None:
                from memedit.encoders import load_encoder

                self._encoder = load_encoder(self._name)
            return self._encoder


def check_vectors(vectors: FloatArray, count: int, dimension: int) -> FloatArray:
    """Return caller-given vectors ``[t, d]`` as unit float32 rows.

    Raises:
        InputError: another shape, a value that is not finite, or a zero row.
    """
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.shape != (count, dimension):
        raise InputError(
            f"vectors have shape {array.shape}; one row of width {dimension} is needed for each of the {count} texts "
            "(each prompt, followed by its paraphrases)"
        )
    norms = np.sqrt(np.einsum("ij,ij->i", array, array))
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise InputError(f"vectors[{bad[0]}] is zero or not finite; it cannot be made a unit vector")
    unit: FloatArray = array / norms[:, None] if np.abs(norms - 1).max(initial=0) > 1e-6 else array
    return unit


def join_vectors(blobs: Iterable[bytes]) -> FloatArray:
    """Stack stored vectors into ``[n, d]``."""
    parts = list(blobs)
    return np.frombuffer(b"".join(parts), dtype="<f4").reshape(len(parts), -1).astype(np.float32, copy=False)
