"""Load a sentence encoder by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.encoders.finding import find_encoder

if TYPE_CHECKING:
    from memedit.encoders.sentence import SentenceEncoder


def load_encoder(name: str | Path = "minilm", *, device: str = "cpu", **options: Any) -> "SentenceEncoder":
    """Load a sentence encoder.

    Args:
        name: "minilm" (the packaged all-MiniLM-L6-v2), "multilingual" (the packaged multilingual-e5-small, converted
            at its first use), a folder, or a sentence-transformers model id.
        device: torch device ("cpu", "cuda", "cuda:1").
        **options: see :class:`~memedit.encoders.sentence.SentenceEncoder` (``max_tokens``).

    Raises:
        ModelNotFoundError: it is nowhere to be found; the message says what to install.
        UnsupportedModelError: found, but not usable (pickled weights, no fast tokenizer, no token vectors).
        InputError: an option is wrong.
    """
    folder = find_encoder(name)
    from memedit.encoders.sentence import SentenceEncoder  # imports torch

    return SentenceEncoder(folder, name=str(name), device=device, **options)
