"""A trained knowledge encoder on disk: safetensors and JSON. Only what training changed is in them."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from memedit.encoders.fingerprint import encoder_fingerprint
from memedit.encoders.knowledge import KnowledgeConfig, KnowledgeEncoder, load_knowledge_encoder
from memedit.errors import FingerprintMismatchError
from memedit.trained_folder import TrainedFolder

WEIGHTS, RECORD = "knowledge.safetensors", "knowledge.json"
FOLDER = TrainedFolder(WEIGHTS, RECORD, 1, "trained knowledge encoder", "memedit train recipe")


def save_knowledge_encoder(
    folder: Path, knowledge: KnowledgeEncoder, *, encoder: str | Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write a trained knowledge encoder to ``folder``; each file is replaced whole.

    ``encoder`` is the name or place of the text encoder it was trained over; its fingerprint is recorded.
    """
    fields = {
        "encoder": str(encoder),
        "encoder_fingerprint": encoder_fingerprint(encoder),
        "config": asdict(knowledge.config),
    }
    FOLDER.save(folder, {name: tensor.to("cpu", dtype) for name, tensor in knowledge.trained_state().items()}, fields)


def open_knowledge_encoder(
    folder: Path, *, encoder: str | Path | None = None, fingerprint: str | None = None
) -> KnowledgeEncoder:
    """Read a trained knowledge encoder, frozen.

    Args:
        folder: where :func:`save_knowledge_encoder` wrote it.
        encoder: the text encoder's place, when it does not lie under the recorded name.
        fingerprint: that of an encoder at hand which must be the one it was trained over.

    Raises:
        ModelNotFoundError: there is none in ``folder``, or no such text encoder.
        FingerprintMismatchError: the text encoder is not the one it was trained over.
        InputError: the files are damaged.
    """
    trained_over, wanted, config = FOLDER.read(folder, _parsed)
    name = str(encoder or trained_over)
    seen = encoder_fingerprint(name) if fingerprint is None else fingerprint
    if seen != wanted:
        raise FingerprintMismatchError(
            f"the knowledge encoder in {folder} was trained over encoder {trained_over!r} ({wanted[:12]}), but "
            f"the one at hand is {seen[:12]}; use that encoder or train again"
        )
    knowledge = load_knowledge_encoder(name, config)
    knowledge.load_trained_state({key: tensor.float() for key, tensor in FOLDER.tensors(folder).items()})
    return knowledge.eval().requires_grad_(False)


def _parsed(fields: Mapping[str, Any]) -> tuple[str, str, KnowledgeConfig]:
    return str(fields["encoder"]), str(fields["encoder_fingerprint"]), KnowledgeConfig(**fields["config"])
