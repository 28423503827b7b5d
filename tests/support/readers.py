"""Readers that were never trained."""

from pathlib import Path

import torch

from memedit.adapters.reader.weights import save_reader
from memedit.models import ModelSpec


def write_reader(folder: Path, model, tokenizer, dtype: torch.dtype = torch.float32) -> None:
    generator = torch.Generator().manual_seed(5)
    spec = ModelSpec.of(model)
    items = [(f"{spec.layers}.{n}.{item.path}", item) for n in range(1, spec.n_layers) for item in spec.attention]
    save_reader(
        folder,
        downs={name: torch.randn(2, item.in_features, generator=generator) * 0.3 for name, item in items},
        ups={name: torch.randn(item.out_features, 2, generator=generator) * 0.3 for name, item in items},
        alpha=4.0,
        model=model,
        tokenizer=tokenizer,
        base_name="tiny",
        training={"seed": 0},
        dtype=dtype,
    )
