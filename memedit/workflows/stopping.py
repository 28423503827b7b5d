"""Ending an answer at its first newline: while generating, to save time, and afterwards, to say where it ended."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria


class AnswerEnd:
    """Where answers end for one model and tokenizer.

    An answer ends with the end-of-sequence token or, when asked to, with the first token that holds a newline behind
    visible text. Newlines before any visible text do not end it. What a token holds is its own decoded text; the bytes
    of a character that spans tokens count as visible, special tokens do not.

    Args:
        tokenizer: the model's tokenizer.
        eos_token_ids: the tokens that end a sequence.
    """

    def __init__(self, tokenizer: Any, eos_token_ids: Sequence[int]) -> None:
        size = max(len(tokenizer), *(i + 1 for i in eos_token_ids), 1)
        special = set(tokenizer.all_special_ids)
        texts = tokenizer.batch_decode([[i] for i in range(size)], clean_up_tokenization_spaces=False)
        for i in special:
            texts[i] = ""
        self.eos = frozenset(eos_token_ids)
        self._visible = torch.tensor([bool(text.strip()) for text in texts])
        self._newline = torch.tensor(["\n" in text for text in texts])
        # A token such as ".\n" shows something and ends the answer all by itself.
        self._alone = torch.tensor([bool(text.rpartition("\n")[0].strip()) for text in texts])

    def cut(self, ids: Sequence[int], *, stop_at_newline: bool, limit: int) -> tuple[int, ...]:
        """Return new token ids up to and including the one that ends the answer, at most ``limit`` of them."""
        seen = False
        for i, token in enumerate(ids[:limit]):
            if token in self.eos:
                return tuple(ids[: i + 1])
            if stop_at_newline and self._newline[token] and (seen or self._alone[token]):
                return tuple(ids[: i + 1])
            seen = seen or bool(self._visible[token])
        return tuple(ids[:limit])

    def criterion(self) -> "NewlineStop":
        """Return a stopping criterion for one call of ``generate``."""
        return NewlineStop(self._visible, self._newline, self._alone)


class NewlineStop(StoppingCriteria):
    """Stops each row at its first newline behind visible text. Looks at the newest token only, so it costs nothing.

    A second call of ``generate`` is told from the first by a sequence that is not one token longer; only *when* rows
    stop depends on that: :meth:`AnswerEnd.cut` has the last word on where an answer ends.
    """

    def __init__(self, visible: torch.Tensor, newline: torch.Tensor, alone: torch.Tensor) -> None:
        self._visible, self._newline, self._alone = visible, newline, alone
        self._seen: torch.Tensor | None = None
        self._length = -1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return which rows are finished, ``[B]``."""
        if self._visible.device != input_ids.device:
            tables = (self._visible, self._newline, self._alone)
            self._visible, self._newline, self._alone = (table.to(input_ids.device) for table in tables)
        newest = input_ids[:, -1].clamp(max=self._visible.shape[0] - 1)
        rows, length = input_ids.shape
        if self._seen is None or len(self._seen) != rows or length != self._length + 1:
            self._seen = torch.zeros(rows, dtype=torch.bool, device=input_ids.device)
        self._length = length
        stop = self._newline[newest] & (self._seen | self._alone[newest])
        self._seen = self._seen | self._visible[newest]
        return stop
