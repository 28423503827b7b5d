"""The fixed split of data rows into those that may be trained on and those that are reported on."""

import hashlib


def is_training_row(text: str) -> bool:
    """Say whether the row whose edit prompt is ``text`` belongs to the training half.

    Every training workflow uses this one split, so that what any shipped weights learned from is known. A row is for
    training iff the first hexadecimal digit of the SHA-1 of its edit prompt (UTF-8) is even: the split depends on the
    text alone, not on its place in a file.
    """
    digest = hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return int(digest[0], 16) % 2 == 0
