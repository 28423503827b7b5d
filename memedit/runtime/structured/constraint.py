"""One answer held to a structure: which tokens may come next, and whether it is whole."""

from collections.abc import Sequence

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from memedit.errors import StructureError


class Constraint:
    """Follows one answer, token by token; it may be taken back (beams) or begun anew. Used by one thread.

    Args:
        matcher: the grammar, at its beginning.
        tokens: the model's tokens as bytes.
    """

    def __init__(self, matcher: LLMatcher, tokens: LLTokenizer) -> None:
        self._matcher, self.tokens = matcher, tokens
        self._said: list[int] = []
        self._ends = frozenset(tokens.eos_tokens)
        self.opening = bytes(matcher.compute_ff_bytes())
        """What every answer begins with."""

    def follow(self, said: Sequence[int]) -> None:
        """Come to where an answer is.

        Raises:
            StructureError: the grammar does not allow it, or has become too complex.
        """
        last = next((i for i, token in enumerate(said) if token in self._ends), None)
        said = said if last is None else said[: last + 1]  # what comes behind the end is padding
        same = 0
        for ours, theirs in zip(self._said, said, strict=False):
            if ours != theirs:
                break
            same += 1
        if same < len(self._said):
            self._matcher.rollback(len(self._said) - same)
            del self._said[same:]
        for token in said[same:]:
            if self.over:
                break  # what comes behind is padding
            if not self._matcher.consume_token(int(token)):
                raise StructureError(f"the answer left its structure: {self._matcher.get_error()[:200]}")
            self._said.append(int(token))

    @property
    def ended(self) -> bool:
        """Whether the end has been said."""
        return bool(self._said) and self._said[-1] in self._ends

    @property
    def over(self) -> bool:
        """Whether nothing can follow but the end."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def allowed(self, width: int) -> Tensor:
        """Return which of ``width`` tokens may come next, a boolean ``[width]`` on the CPU.

        Raises:
            StructureError: the grammar has become too complex to say.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise StructureError(f"the structure is too complex to be held to: {self._matcher.get_error()[:200]}")
        found = np.zeros(width, dtype=bool)
        unpacked = np.unpackbits(bits, count=min(width, 8 * len(bits)), bitorder="little")
        found[: len(unpacked)] = unpacked
        if not found.any():
            raise StructureError("the model has no token with which the structure could go on")
        return torch.from_numpy(found)

    def takes(self, ids: Sequence[int]) -> bool:
        """Whether all these tokens may follow, one after the other."""
        return int(self._matcher.validate_tokens(list(ids))) == len(ids)


def masked(scores: Tensor, constraint: Constraint, said: Sequence[int]) -> Tensor:
    """Return scores ``[v]`` with -inf for every token that may not follow ``said``; behind the end all may.

    Raises:
        StructureError: the structure cannot be held to any further.
    """
    constraint.follow(said)
    if constraint.ended:
        return scores
    return scores.masked_fill(~constraint.allowed(scores.shape[-1]).to(scores.device), float("-inf"))
