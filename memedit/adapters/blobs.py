"""Artefacts of edits as safetensors blobs."""

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from memedit.errors import InputError


def read_tensors(blob: bytes, what: str) -> dict[str, Tensor]:
    """Return the tensors of an artefact by name.

    Args:
        blob: what the memory kept.
        what: begins the message: "the values of edit 7 are".

    Raises:
        InputError: the blob is damaged.
    """
    try:
        return load(blob)
    except SafetensorError as error:
        raise InputError(f"{what} damaged: {error}; prepare it again") from error
