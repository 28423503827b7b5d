"""What every sentence encoder offers."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from memedit.types import Encoding, FloatArray

Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""


@runtime_checkable
class Encoder(Protocol):
    """Text to unit vectors. Deterministic; safe to call from several threads."""

    @property
    def name(self) -> str:
        """Name it was loaded by."""

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""

    @property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, pooling and token limit: two encoders agree iff these agree."""

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None) -> FloatArray:
        """Return float32 ``[n, d]`` with unit rows, in input order (``[0, d]`` for no texts)."""

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 64) -> list[Encoding]:
        """Return sentence and token vectors of each text from one forward pass, in input order."""
