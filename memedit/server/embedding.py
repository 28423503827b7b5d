"""The memory's encoder for clients: a few texts at a time, in a thread of its own, with a bounded queue."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from memedit.encoders.base import Encoder
from memedit.memory import EditMemory
from memedit.runtime.rows import check_characters
from memedit.server.problems import ApiError, overloaded
from memedit.types import Encoding, FloatArray

_AT_ONCE = 16
"""Texts in one pass; between passes other work of the encoder has its turn."""

_WAITING = 32


class Embedder:
    """Turns texts into vectors.

    Args:
        memory: whose encoder it is.
    """

    def __init__(self, memory: EditMemory) -> None:
        self._memory = memory
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="memedit-embedding")
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def encoder(self) -> Encoder:
        """Return the encoder, loaded now if it was not yet."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: self._memory.encoder)

    async def embed(self, texts: Sequence[str]) -> tuple[FloatArray, int]:
        """Return unit vectors ``[n, d]`` in order, and how many tokens were read.

        Raises:
            ApiError: 400, a text is longer than the encoder reads; 429, too many requests wait.
            InputError: a text is no Unicode.
        """
        for text in texts:
            check_characters(text)
        if self._waiting >= _WAITING:
            raise overloaded(f"{_WAITING} requests for vectors are waiting already", 1.0)
        encoder, loop = await self.encoder(), asyncio.get_running_loop()
        vectors: list[FloatArray] = []
        count = 0
        self._waiting += 1
        try:
            for start in range(0, len(texts), _AT_ONCE):
                async with self._turn:  # requests take turns between passes
                    part = texts[start : start + _AT_ONCE]
                    found = await loop.run_in_executor(self._threads, encoder.encode_tokens, part)
                _check_whole(encoder, found, start)
                vectors += [encoding.vector for encoding in found]
                count += sum(len(encoding.tokens) for encoding in found)
        finally:
            self._waiting -= 1
        return np.stack(vectors), count

    def close(self) -> None:
        """Stop the thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _check_whole(encoder: Encoder, found: Sequence[Encoding], start: int) -> None:
    """Refuse texts of which the encoder has read a part only."""
    limit = getattr(encoder, "max_tokens", None)
    for number, encoding in enumerate(found, start=start):
        end = encoding.spans[-1][1] if encoding.spans else 0
        if limit is not None and len(encoding.tokens) >= limit - 8 and end < len(encoding.text.rstrip()):
            message = f"input {number} is longer than the {limit} tokens that the encoder reads; split it"
            raise ApiError(400, message, code="context_length_exceeded", param="input")
