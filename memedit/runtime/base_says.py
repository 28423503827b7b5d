"""What the bare model says something is: a few tokens, greedily, in the form of lines that name one thing each."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from memedit.models.tokenizers import encode_as_data

_LINES = (
    "The capital of Japan is Tokyo.\nThe author of Hamlet is William Shakespeare.\n"
    "The language spoken in the country where Mozart was born is German.\n"
)
"""Lines before the one that the model ends: they keep it to a name."""
_TOKENS = 12
_CHARS = 300
_KEPT = 256

Generate = Callable[[dict[str, Any]], Any]


class BaseNames:
    """Asks the bare model what something is, and remembers its last answers: its weights do not change.

    Args:
        tokenizer: the model's.
        generate: the bare model's ``generate``, by its arguments.
        device: where the model is.
        pad: the id that it pads with.
    """

    def __init__(
        self, tokenizer: Any, generate: Generate, *, device: Callable[[], Any], pad: Callable[[], int]
    ) -> None:
        self._tokenizer, self._generate, self._device, self._pad = tokenizer, generate, device, pad
        self._known: OrderedDict[str, str] = OrderedDict()

    def __call__(self, asked: str) -> str:
        """Return what the model says of a phrase ("the country where Ann Ray was born"): the end of its line."""
        phrase = " ".join(asked.split())[:_CHARS]
        if phrase not in self._known:
            self._known[phrase] = self._said(f"{_LINES}{phrase[:1].upper()}{phrase[1:]} is")
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[phrase]

    def _said(self, text: str) -> str:
        begin = [i for i in self._tokenizer("")["input_ids"] if i == self._tokenizer.bos_token_id]
        ids = torch.tensor([[*begin, *encode_as_data(self._tokenizer, text)]], device=self._device())
        new = self._generate(
            {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "max_new_tokens": _TOKENS,
                "do_sample": False,
                "num_beams": 1,
                "pad_token_id": self._pad(),
            }
        )[0, ids.shape[1] :]
        return str(self._tokenizer.decode(new, skip_special_tokens=True)).split("\n")[0]
