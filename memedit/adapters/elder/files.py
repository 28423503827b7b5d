"""A mixture on disk: its weights as safetensors, its shape and base model as JSON, written whole or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from memedit.adapters.elder.config import ElderConfig
from memedit.adapters.elder.mixture import ElderMixture
from memedit.errors import InputError, ModelNotFoundError
from memedit.models.identity import BaseRecord
from memedit.models.spec import ModelSpec

WEIGHTS, RECORD = "mixture.safetensors", "elder.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class ElderRecord:
    """What ``elder.json`` says: the mixture's shape, the base model it is for, how it was trained, its fingerprint."""

    config: ElderConfig
    base: BaseRecord
    training: Mapping[str, Any]
    fingerprint: str


def mixture_fingerprint(mixture: ElderMixture, base: BaseRecord) -> str:
    """Return the hash of everything that codes depend on: shape, weights and base model."""
    described = json.dumps([mixture.config.to_json(), base.to_json()], sort_keys=True)
    digest = hashlib.sha256(described.encode())
    for name, tensor in sorted(mixture.state_dict().items()):
        digest.update(f"{name}|{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_mixture(folder: Path, mixture: ElderMixture, base: BaseRecord, training: Mapping[str, Any]) -> ElderRecord:
    """Write a mixture to ``folder`` and return its record; the record comes last, so what has one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    record = ElderRecord(mixture.config, base, dict(training), mixture_fingerprint(mixture, base))
    tensors = {name: t.detach().to("cpu", torch.float32).contiguous() for name, t in mixture.state_dict().items()}
    partial = folder / f".{WEIGHTS}.{os.getpid()}"
    save_file(tensors, partial, metadata={"format": "pt"})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, folder / WEIGHTS)
    fields = {
        "format": FORMAT,
        "memedit": metadata.version("memedit"),
        "config": record.config.to_json(),
        "base": base.to_json(),
        "training": dict(training),
        "fingerprint": record.fingerprint,
    }
    partial = folder / f".{RECORD}.{os.getpid()}"
    partial.write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, folder / RECORD)
    return record


def read_record(folder: Path) -> ElderRecord:
    """Read ``elder.json``.

    Raises:
        ModelNotFoundError: the folder holds none.
        InputError: it is damaged or was written by a newer memedit.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ModelNotFoundError(f"{folder} holds no ELDER mixture ({RECORD}); make one: memedit train elder")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format"]
        if version != FORMAT:
            raise InputError(f"{path} has format {version}, this memedit reads {FORMAT}; update memedit")
        config, base = ElderConfig.parse(fields["config"]), BaseRecord.parse(fields["base"])
        return ElderRecord(config, base, dict(fields["training"]), str(fields["fingerprint"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged: {error!r}; train again or restore the file") from error


def load_mixture(folder: Path, model: Any, tokenizer: Any) -> tuple[ElderMixture, ElderRecord]:
    """Read a mixture, frozen, onto the model's device, and check that it is for this model.

    Raises:
        ModelNotFoundError: no mixture there.
        FingerprintMismatchError: it was trained for another base model or tokenizer; says which.
        InputError: its files are damaged, or do not belong together.
    """
    record = read_record(folder)
    record.base.check(model, tokenizer, f"the ELDER mixture in {folder}")
    mixture = ElderMixture(record.config, ModelSpec.of(model))
    try:
        mixture.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise InputError(f"cannot use {folder / WEIGHTS}: {error}; train again or restore the file") from error
    if mixture_fingerprint(mixture, record.base) != record.fingerprint:
        raise InputError(f"{folder / WEIGHTS} is not the file that {RECORD} describes; train again or restore both")
    return mixture.to(model.device).eval().requires_grad_(False), record
