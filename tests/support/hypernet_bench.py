"""A random hypernetwork for a tiny model, on disk."""

from pathlib import Path
from typing import Any

import torch

from memedit.models.hypernet.config import HypernetConfig
from memedit.models.hypernet.files import HypernetRecord, new_network, save_network
from memedit.models.identity import BaseRecord

SHAPE = HypernetConfig(layers=(1, 2), rank=8, factors=4)


def write_hypernet(folder: Path, model: Any, tokenizer: Any) -> Path:
    """Save an untrained network whose factors are large enough to change answers, and return its folder."""
    network = new_network(SHAPE, model, step_size=0.05, seed=7)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        network.write_0.copy_(0.1 * torch.randn(network.write_0.shape, generator=generator))
    base = BaseRecord.of(model, tokenizer, "tiny")
    save_network(folder, network, HypernetRecord("mend", SHAPE, base, {"seed": 7}))
    return folder
