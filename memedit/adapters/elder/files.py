"""A mixture on disk: its weights as safetensors, its shape and base model as JSON, written whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedit.adapters.elder.config import ElderConfig
from memedit.adapters.elder.mixture import ElderMixture
from memedit.errors import InputError
from memedit.models.identity import BaseRecord
from memedit.models.spec import ModelSpec
from memedit.trained_folder import TrainedFolder, weights_fingerprint

WEIGHTS, RECORD = "mixture.safetensors", "elder.json"
FOLDER = TrainedFolder(WEIGHTS, RECORD, 1, "ELDER mixture", "memedit train elder")


@dataclass(frozen=True, slots=True)
class ElderRecord:
    """What ``elder.json`` says: the mixture's shape, the base model it is for, how it was trained, its fingerprint."""

    config: ElderConfig
    base: BaseRecord
    training: Mapping[str, Any]
    fingerprint: str


def mixture_fingerprint(mixture: ElderMixture, base: BaseRecord) -> str:
    """Return the hash of everything that codes depend on: shape, weights and base model."""
    return weights_fingerprint([mixture.config.to_json(), base.to_json()], _weights(mixture))


def _weights(mixture: ElderMixture) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", torch.float32) for name, tensor in mixture.state_dict().items()}


def save_mixture(folder: Path, mixture: ElderMixture, base: BaseRecord, training: Mapping[str, Any]) -> ElderRecord:
    """Write a mixture to ``folder`` and return its record; the record comes last, so what has one is whole."""
    record = ElderRecord(mixture.config, base, dict(training), mixture_fingerprint(mixture, base))
    fields = {
        "config": record.config.to_json(),
        "base": base.to_json(),
        "training": dict(training),
        "fingerprint": record.fingerprint,
    }
    FOLDER.save(folder, _weights(mixture), fields)
    return record


def read_record(folder: Path) -> ElderRecord:
    """Read ``elder.json``.

    Raises:
        ModelNotFoundError: the folder holds none.
        InputError: it is damaged or was written by another version.
    """
    return FOLDER.read(folder, _parsed)


def _parsed(fields: Mapping[str, Any]) -> ElderRecord:
    config, base = ElderConfig.parse(fields["config"]), BaseRecord.parse(fields["base"])
    return ElderRecord(config, base, dict(fields["training"]), str(fields["fingerprint"]))


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
        mixture.load_state_dict(FOLDER.tensors(folder))
    except RuntimeError as error:
        raise InputError(f"cannot use {folder / WEIGHTS}: {error}; train again or restore the file") from error
    if mixture_fingerprint(mixture, record.base) != record.fingerprint:
        raise InputError(f"{folder / WEIGHTS} is not the file that {RECORD} describes; train again or restore both")
    return mixture.to(model.device).eval().requires_grad_(False), record
