"""Everything RECIPE trains, in one module, and its files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memedit.adapters.recipe.prompts import PromptConfig, PromptHead, embedding_moments
from memedit.encoders.knowledge import KnowledgeConfig, KnowledgeEncoder, load_knowledge_encoder
from memedit.encoders.knowledge_files import open_knowledge_encoder, save_knowledge_encoder
from memedit.errors import InputError
from memedit.models.identity import BaseRecord
from memedit.trained_folder import TrainedFolder, weights_fingerprint

WEIGHTS, RECORD = "prompts.safetensors", "recipe.json"
FOLDER = TrainedFolder(WEIGHTS, RECORD, 2, "trained RECIPE network", "memedit train recipe")


class RecipeNetwork(nn.Module):
    """Knowledge encoder and prompt head; :meth:`trained_state` names start with ``encoder.`` and ``prompts.``."""

    def __init__(self, encoder: KnowledgeEncoder, prompts: PromptHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.prompts = prompts

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return every parameter that training changes, by name."""
        names = [f"encoder.{name}" for name in self.encoder.trained_state()]
        own = dict(self.named_parameters())
        return {name: own[name] for name in [*names, *(n for n in own if n.startswith("prompts."))]}


@dataclass(frozen=True, slots=True)
class RecipeRecord:
    """What ``recipe.json`` says: the prompt head's shape, the base model it was trained for, and how."""

    prompts: PromptConfig
    base: BaseRecord
    training: Mapping[str, Any]


def new_network(
    model: Any, *, encoder: str | Path, knowledge: KnowledgeConfig, prompt_tokens: int, inner: int = 512, seed: int
) -> RecipeNetwork:
    """Build an untrained network for ``model``; ``seed`` decides it, the global random state stays."""
    hidden = int(model.get_input_embeddings().weight.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = PromptConfig(knowledge.width, prompt_tokens, hidden, inner)
        rms, mean = embedding_moments(model)
        prompts = PromptHead(shape, rms=rms, mean=mean)
    return RecipeNetwork(load_knowledge_encoder(encoder, knowledge, seed=seed), prompts)


def save_network(
    folder: Path,
    network: RecipeNetwork,
    record: RecipeRecord,
    *,
    encoder: str | Path,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the knowledge encoder's files, ``prompts.safetensors`` and ``recipe.json``; each is replaced whole."""
    save_knowledge_encoder(folder, network.encoder, encoder=encoder, dtype=dtype)
    tensors: dict[str, Tensor] = {
        name: tensor.detach().to("cpu", dtype if tensor.dim() else torch.float32)
        for name, tensor in network.prompts.state_dict().items()
    }
    FOLDER.save(folder, tensors, asdict(record))


def read_record(folder: Path) -> RecipeRecord:
    """Read ``recipe.json``.

    Raises:
        ModelNotFoundError: the folder holds none.
        InputError: it is damaged or written by another version.
    """
    return FOLDER.read(folder, _parsed)


def _parsed(fields: Mapping[str, Any]) -> RecipeRecord:
    base = BaseRecord.parse(fields["base"])
    return RecipeRecord(PromptConfig(**fields["prompts"]), base, dict(fields["training"]))


def load_network(folder: Path, *, encoder: str | Path | None = None) -> tuple[RecipeNetwork, RecipeRecord]:
    """Read a trained network, frozen.

    Args:
        folder: where :func:`save_network` wrote it.
        encoder: the text encoder's place, when it does not lie under the recorded name.

    Raises:
        ModelNotFoundError: no network there, or no such encoder.
        FingerprintMismatchError: the encoder is not the one it was trained over.
        InputError: the files are damaged.
    """
    record = read_record(folder)
    knowledge = open_knowledge_encoder(folder, encoder=encoder)
    prompts = PromptHead(record.prompts)
    try:
        prompts.load_state_dict({name: tensor.float() for name, tensor in FOLDER.tensors(folder).items()})
    except RuntimeError as error:
        raise InputError(f"cannot use {folder / WEIGHTS}: {error}") from error
    return RecipeNetwork(knowledge, prompts).eval().requires_grad_(False), record


def fingerprint_of(parameters: Mapping[str, Tensor], base: Mapping[str, Any]) -> str:
    """Return a SHA-256 (hex) of trained parameters and of the record of the base they are for."""
    return weights_fingerprint(base, parameters)
