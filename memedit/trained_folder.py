"""Trained weights on disk: safetensors beside a JSON record, written whole and flushed, with a fingerprint of both."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memedit.errors import InputError, ModelNotFoundError, unread
from memedit.whole_files import write_json, write_whole

if TYPE_CHECKING:
    from torch import Tensor

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class TrainedFolder:
    """The two files of one kind of trained part.

    Args:
        weights: name of the safetensors file.
        record: name of the JSON file, which is written last: what has one is whole.
        format: number of the form of both, which is in the record.
        what: what the folder holds, for messages.
        make: command that makes one.
    """

    weights: str
    record: str
    format: int
    what: str
    make: str

    def save(self, folder: Path, tensors: "Mapping[str, Tensor]", fields: Mapping[str, Any]) -> None:
        """Write weights and record; a kill leaves each file as it was or new, never a part of one.

        Raises:
            OSError: one cannot be written.
        """
        from safetensors.torch import save_file

        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(folder / self.weights, lambda partial: save_file(stored, partial, metadata={"format": "pt"}))
        (folder / self.weights).chmod(0o644)  # safetensors writes for the owner alone
        write_json(folder / self.record, {"format": self.format, "memedit": metadata.version("memedit"), **fields})

    def read(self, folder: Path, parse: Callable[[Mapping[str, Any]], Record]) -> Record:
        """Read the record; ``parse`` makes of its fields what it stands for.

        Raises:
            ModelNotFoundError: the folder holds none.
            InputError: it is damaged, or of another format.
        """
        path = folder / self.record
        if not path.is_file():
            raise ModelNotFoundError(f"{folder} holds no {self.what} ({self.record}); make one: {self.make}")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != self.format:
                raise InputError(
                    f"{path} has format {fields['format']}, this memedit reads {self.format}; train again or update "
                    "memedit"
                )
            return parse(fields)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged: {unread(error)}; train again or restore the file") from error

    def tensors(self, folder: Path) -> "dict[str, Tensor]":
        """Read the weights; nothing is unpickled.

        Raises:
            InputError: the file is absent or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(folder / self.weights)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"cannot read {folder / self.weights}: {error}; train again or restore the file"
            ) from error


def weights_fingerprint(described: Any, tensors: "Mapping[str, Tensor]") -> str:
    """Return a SHA-256 (hex) of ``described``, as JSON, and of the tensors' names, shapes and bytes."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}|{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
