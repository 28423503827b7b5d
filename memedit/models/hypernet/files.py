"""A trained hypernetwork on disk: its weights as safetensors, its shape and base model as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedit.errors import InputError
from memedit.models.hypernet.config import HypernetConfig, edited_map
from memedit.models.hypernet.knowledge_editor import KnowledgeEditor
from memedit.models.hypernet.network import HyperNetwork
from memedit.models.identity import BaseRecord
from memedit.models.spec import ModelSpec
from memedit.trained_folder import TrainedFolder, weights_fingerprint

WEIGHTS, RECORD = "hypernet.safetensors", "hypernet.json"
FOLDER = TrainedFolder(WEIGHTS, RECORD, 1, "trained hypernetwork", "memedit train hypernet")


@dataclass(frozen=True, slots=True)
class HypernetRecord:
    """What ``hypernet.json`` says: the preset's name, the network's shape, its base model, and how it was trained."""

    preset: str
    config: HypernetConfig
    base: BaseRecord
    training: Mapping[str, Any]


Network = HyperNetwork | KnowledgeEditor


def new_network(config: HypernetConfig, model: Any, *, step_size: float = 1e-4, seed: int = 0) -> Network:
    """Return an untrained network for ``model``; ``config`` needs its layers."""
    spec = edited_map(ModelSpec.of(model))
    if config.network == "text":
        width = model.get_input_embeddings().embedding_dim
        return KnowledgeEditor(config, spec.in_features, spec.out_features, width, step_size=step_size, seed=seed)
    return HyperNetwork(config, spec.in_features, spec.out_features, step_size=step_size, seed=seed)


def network_fingerprint(network: Network, base: BaseRecord) -> str:
    """Return the hash of everything that an edit's factors depend on: shape, weights and base model."""
    return weights_fingerprint([network.config.to_json(), base.to_json()], network.state_dict())


def save_network(folder: Path, network: Network, record: HypernetRecord) -> None:
    """Write a network to ``folder``, matrices in float16; the record comes last, so what has one is whole."""
    fields = {
        "preset": record.preset,
        "config": record.config.to_json(),
        "base": record.base.to_json(),
        "training": dict(record.training),
    }
    FOLDER.save(folder, {name: _stored(tensor) for name, tensor in network.state_dict().items()}, fields)


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float16 if tensor.dim() > 1 else torch.float32)


def read_record(folder: Path) -> HypernetRecord:
    """Read ``hypernet.json``.

    Raises:
        ModelNotFoundError: the folder holds none.
        InputError: it is damaged or was written by another version.
    """
    return FOLDER.read(folder, _parsed)


def _parsed(fields: Mapping[str, Any]) -> HypernetRecord:
    config, base = HypernetConfig.parse(fields["config"]), BaseRecord.parse(fields["base"])
    return HypernetRecord(str(fields["preset"]), config, base, dict(fields["training"]))


def load_network(folder: Path, model: Any, tokenizer: Any) -> tuple[Network, HypernetRecord]:
    """Read a network, frozen and in float32, onto the model's device, and check that it is for this model.

    Raises:
        ModelNotFoundError: no network there.
        FingerprintMismatchError: it was trained for another base model or tokenizer; says which.
        InputError: its files are damaged, or do not belong together.
    """
    record = read_record(folder)
    record.base.check(model, tokenizer, f"the hypernetwork in {folder}")
    network = new_network(record.config, model)
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in FOLDER.tensors(folder).items()})
    except RuntimeError as error:
        raise InputError(f"cannot use {folder / WEIGHTS}: {error}; train again or restore the file") from error
    return network.to(model.device).eval().requires_grad_(False), record
