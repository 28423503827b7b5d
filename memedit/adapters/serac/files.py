"""A trained counterfactual model on disk: its LoRA as safetensors, and a JSON record."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from memedit.adapters.serac.counterfactual import (
    CounterfactualConfig,
    build_counterfactual,
    load_trained,
    trained_parameters,
)
from memedit.adapters.serac.layout import LAYOUT_VERSION
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.models.identity import BaseRecord

WEIGHTS, RECORD = "counterfactual.safetensors", "serac.json"
FORMAT = 2


@dataclass(frozen=True, slots=True)
class SeracRecord:
    """What ``serac.json`` says: the model's shape, the base it was cut from, the input layout, and how it was made."""

    counterfactual: CounterfactualConfig
    base: BaseRecord
    layout: int
    training: Mapping[str, Any]


def save_counterfactual(folder: Path, model: Any, record: SeracRecord, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a counterfactual model's LoRA and record to ``folder``; each file is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().to("cpu", dtype).contiguous() for name, p in trained_parameters(model).items()}
    partial = folder / f".{WEIGHTS}.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    os.replace(partial, folder / WEIGHTS)
    fields = {"format": FORMAT, "memedit": metadata.version("memedit"), **asdict(record)}
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, folder / RECORD)


def read_record(folder: Path) -> SeracRecord:
    """Read ``serac.json``.

    Raises:
        ModelNotFoundError: the folder holds none.
        InputError: it is damaged or written by a newer version.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ModelNotFoundError(f"{folder} holds no counterfactual model ({RECORD}); make one: memedit train serac")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format"]
        record = _parsed(fields) if version == FORMAT else None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error!r}; train again or restore the file") from error
    if record is None:
        raise InputError(f"{path} has format {version}, this memedit reads {FORMAT}; train again or update memedit")
    return record


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
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read {folder / WEIGHTS}: {error}") from error
    model = build_counterfactual(base, record.counterfactual)
    load_trained(model, tensors)
    return model.requires_grad_(False).eval(), record
