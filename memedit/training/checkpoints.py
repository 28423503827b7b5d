"""Training checkpoints that survive a kill: one safetensors file, with its step and key in the header."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from memedit.errors import InputError
from memedit.whole_files import write_whole

NAME = "checkpoint.safetensors"


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
