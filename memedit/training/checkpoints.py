"""Training checkpoints that survive a kill: one safetensors file, with its step and key in the header."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from memedit.errors import InputError
from memedit.whole_files import write_whole

NAME = "checkpoint.safetensors"


def run_key(**described: Any) -> str:
    """Return a digest of everything a run depends on: settings, data, base."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a run keeps its one checkpoint: ``every`` so many steps, in ``folder``, under the run's ``key``.

    Without ``resume`` a checkpoint that is there is written over.
    """

    folder: Path
    key: str
    every: int
    resume: bool = True

    def is_due(self, step: int, steps: int) -> bool:
        """Whether the state after ``step`` of ``steps`` is kept; the last state is what the run writes anyway."""
        return step % self.every == 0 and step < steps

    def load(self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
        """See :func:`load_checkpoint`; 0 too when the run is not to be resumed."""
        if not self.resume:
            return 0
        return load_checkpoint(self.folder, key=self.key, parameters=parameters, optimizer=optimizer)

    def save(self, step: int, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """See :func:`save_checkpoint`."""
        save_checkpoint(self.folder, step=step, key=self.key, parameters=parameters, optimizer=optimizer)

    def remove(self) -> None:
        """Drop the checkpoint of a run that is done."""
        (self.folder / NAME).unlink(missing_ok=True)


def save_checkpoint(
    folder: Path, *, step: int, key: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write parameters, optimizer moments and ``step``; the old checkpoint is replaced in one move.

    ``key`` describes everything the run depends on (settings, data, base): a checkpoint is resumed under the same
    key only.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"parameter.{name}"] = parameter.detach().contiguous()
        for field, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{field}.{name}"] = torch.as_tensor(value).detach().contiguous()
    header = {"step": str(step), "key": key}
    write_whole(folder / NAME, lambda partial: save_file(tensors, partial, metadata=header))


def load_checkpoint(
    folder: Path, *, key: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> int:
    """Put a checkpoint back into ``parameters`` and ``optimizer`` and return its step; 0 when there is none.

    Raises:
        InputError: it belongs to another run (settings, data or base differ) or is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("key") != key:
                raise InputError(
                    f"{path} belongs to a run with other settings, data or base model; remove it, choose another "
                    "folder, or start afresh without resuming"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            step = int(header["step"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read the checkpoint {path}: {error}; remove it to start afresh") from error
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter.{name}"])
    for name, parameter in parameters.items():
        fields = [key.split(".", 2) for key in tensors if key.startswith("optimizer.")]
        state = {f: tensors[f"optimizer.{f}.{n}"] for _, f, n in fields if n == name}
        if state:
            optimizer.state[parameter].update(state)
    return step
