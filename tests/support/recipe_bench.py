"""A random RECIPE network for a tiny model, on disk, and edits to try it with."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from memedit.adapters.recipe.network import RecipeRecord, new_network, save_network
from memedit.encoders.knowledge import KnowledgeConfig
from memedit.models.identity import BaseRecord
from memedit.types import Edit, EditKind, EditState
from support.tiny_encoder import save_tiny_encoder

SHAPE = KnowledgeConfig(width=16, prototypes=4, lora_rank=2, lora_alpha=4, max_tokens=64)
TOKENS = 3


def write_recipe(folder: Path, model: Any, tokenizer: Any, *, encoder: Path | None = None) -> Path:
    """Save an untrained network (its prompts are random but large enough to matter); return the encoder's folder."""
    place = encoder or save_tiny_encoder(folder / "encoder")
    network = new_network(model, encoder=place, knowledge=SHAPE, prompt_tokens=TOKENS, seed=7)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        weight = network.prompts.project.weight
        weight.copy_(torch.randn(weight.shape, generator=generator))
    record = RecipeRecord(network.prompts.config, BaseRecord.of(model, tokenizer, "tiny"), {"seed": 7})
    save_network(folder, network, record, encoder=place)
    return place


def make_edit(number: int, prompt: str = "The mill is run by", target: str = "Ada") -> Edit:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Edit(
        f"e{number}", "default", prompt, target, None, (), None, EditKind.FACT, {}, None, now, None, None, None, 1,
        EditState.ACTIVE, f"hash{number}",
    )  # fmt: skip
