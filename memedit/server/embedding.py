"""The memory's encoder for clients: a few texts at a time, in a thread of its own, the keys in turn."""

from collections.abc import Callable, Sequence

import numpy as np

from memedit.encoders.base import Encoder
from memedit.memory import EditMemory
from memedit.runtime.rows import check_characters
from memedit.server.problems import ApiError
from memedit.server.queues import FairThreads
from memedit.types import Encoding, FloatArray

_AT_ONCE = 16
"""Texts in one pass; between passes other work of the encoder has its turn."""

_WAITING = 32
"""Passes of one key that may wait."""


class Embedder:
    """Turns texts into vectors.

    Args:
        memory: whose encoder it is.
        busy: whether others are being served, see :class:`~memedit.server.queues.FairThreads`.
    """

    def __init__(self, memory: EditMemory, busy: Callable[[], bool] | None = None) -> None:
        self._memory = memory
        self._threads = FairThreads("embedding", 1, at_once=1, per_key=_WAITING, busy=busy)

    async def encoder(self, who: str) -> Encoder:
        """Return the encoder, loaded now if it was not yet."""
        return await self._threads.run(who, lambda: self._memory.encoder)

    async def embed(self, who: str, texts: Sequence[str]) -> tuple[FloatArray, int]:
        """Return unit vectors ``[n, d]`` in order, and how many tokens were read.

        Raises:
            ApiError: 400, a text is longer than the encoder reads; 429, too many requests of the key wait.
            InputError: a text is no Unicode.
        """
        for text in texts:
            check_characters(text)
        encoder = await self.encoder(who)
        vectors: list[FloatArray] = []
        count = 0
        for start in range(0, len(texts), _AT_ONCE):  # requests take turns between passes
            found = await self._threads.run(who, encoder.encode_tokens, texts[start : start + _AT_ONCE])
            _check_whole(encoder, found, start)
            vectors += [encoding.vector for encoding in found]
            count += sum(len(encoding.tokens) for encoding in found)
        return np.stack(vectors), count

    def close(self) -> None:
        """Stop the thread."""
        self._threads.close()


def _check_whole(encoder: Encoder, found: Sequence[Encoding], start: int) -> None:
    """Refuse texts of which the encoder has read a part only."""
    limit = getattr(encoder, "max_tokens", None)
    for number, encoding in enumerate(found, start=start):
        end = encoding.spans[-1][1] if encoding.spans else 0
        if limit is not None and len(encoding.tokens) >= limit - 8 and end < len(encoding.text.rstrip()):
            message = f"input {number} is longer than the {limit} tokens that the encoder reads; split it"
            raise ApiError(400, message, code="context_length_exceeded", param="input")
