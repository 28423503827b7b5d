"""Text as it is generated."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from transformers import StoppingCriteria, TextIteratorStreamer

from memedit.types import Route


class TextStream(Iterator[str]):
    """Pieces of an answer in order; generation runs in a thread of its own.

    An error there is raised from ``next``. Closing the stream, or leaving its ``with`` block, ends generation at the
    next token. ``route`` tells which edits fired; once the stream has ended, also those that came up on the way.
    """

    def __init__(self, route: Route, tokenizer: Any, generate: Callable[[Any, StoppingCriteria], Route | None]) -> None:
        self.route = route
        self._streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._stop = _Stop()
        self._error: BaseException | None = None
        self._generate = generate
        self._thread = threading.Thread(target=self._work, name="memedit-stream", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.route = self._generate(self._streamer, self._stop) or self.route
        except BaseException as error:  # handed over to the reader of the stream, whatever it is
            self._error = error
            self._streamer.text_queue.put(self._streamer.stop_signal)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while True:
            try:
                piece = next(self._streamer)
            except StopIteration:
                self._thread.join()
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error from None
                raise
            except queue.Empty:
                continue
            if piece:
                return str(piece)

    def close(self) -> None:
        """End generation and wait for it."""
        self._stop.asked.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stop(StoppingCriteria):
    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        return torch.full((input_ids.shape[0],), self.asked.is_set(), device=input_ids.device, dtype=torch.bool)
