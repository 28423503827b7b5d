"""A trained counterfactual model on disk: its LoRA as safetensors, and a JSON record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from memedit.adapters.serac.counterfactual import (
    CounterfactualConfig,
    build_counterfactual,
    load_trained,
    trained_parameters,
)
from memedit.adapters.serac.layout import LAYOUT_VERSION
from memedit.errors import FingerprintMismatchError
from memedit.models.identity import BaseRecord
from memedit.trained_folder import TrainedFolder

WEIGHTS, RECORD = "counterfactual.safetensors", "serac.json"
FOLDER = TrainedFolder(WEIGHTS, RECORD, 2, "counterfactual model", "memedit train serac")


@dataclass(frozen=True, slots=True)
class SeracRecord:
    """What ``serac.json`` says: the model's shape, the base it was cut from, the input layout, and how it was made."""

    counterfactual: CounterfactualConfig
    base: BaseRecord
    layout: int
    training: Mapping[str, Any]


def save_counterfactual(folder: Path, model: Any, record: SeracRecord, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a counterfactual model's LoRA and record to ``folder``; each file is replaced whole."""
    tensors = {name: parameter.detach().to("cpu", dtype) for name, parameter in trained_parameters(model).items()}
    FOLDER.save(folder, tensors, asdict(record))


def read_record(folder: Path) -> SeracRecord:
    """Read ``serac.json``.

    Raises:
        ModelNotFoundError: the folder holds none.
        InputError: it is damaged or written by another version.
    """
    return FOLDER.read(folder, _parsed)


def _parsed(fields: Mapping[str, Any]) -> SeracRecord:
    return SeracRecord(
        counterfactual=CounterfactualConfig(**fields["counterfactual"]),
        base=BaseRecord.parse(fields["base"]),
        layout=int(fields["layout"]),
        training=dict(fields["training"]),
    )


def load_counterfactual(folder: Path, base: Any, tokenizer: Any) -> tuple[Any, SeracRecord]:
    """Read a counterfactual model over the weights of ``base``, frozen, in the base's dtype.

    Raises:
        ModelNotFoundError: there is none in ``folder``.
        FingerprintMismatchError: it was made for another base, tokenizer or input layout.
        InputError: the files are damaged.
    """
    record = read_record(folder)
    record.base.check(base, tokenizer, f"the counterfactual model in {folder}")
    if record.layout != LAYOUT_VERSION:
        raise FingerprintMismatchError(
            f"the counterfactual model in {folder} reads input layout {record.layout}, this memedit writes "
            f"{LAYOUT_VERSION}; train again"
        )
    model = build_counterfactual(base, record.counterfactual)
    load_trained(model, FOLDER.tensors(folder))
    return model.requires_grad_(False).eval(), record
