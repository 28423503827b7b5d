"""The fixed split of data rows into those that may be trained on and those that are reported on."""

import hashlib
from collections.abc import Iterable


def is_training_row(text: str) -> bool:
    """Say whether the row whose edit prompt is ``text`` belongs to the training half.

    Every training workflow uses this one split, so that what any shipped weights learned from is known. A row is for
    training iff the first hexadecimal digit of the SHA-1 of its edit prompt (UTF-8) is even: the split depends on the
    text alone, not on its place in a file.
    """
    digest = hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return int(digest[0], 16) % 2 == 0


WHOLE_ROWS = 9000
"""Of CounterFact the scope classifier learns from so many rows, both halves; those after them train nothing."""


def is_held_out_row(form: str, line: int, prompts: Iterable[str]) -> bool:
    """Say whether no shipped weights were trained on a row.

    Args:
        form: name of the data format.
        line: the row's line in its file, from 1.
        prompts: the prompts of its edits.
    """
    if form == "counterfact":
        return line > WHOLE_ROWS
    return not any(is_training_row(prompt) for prompt in prompts)
