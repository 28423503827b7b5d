"""A trained knowledge encoder on disk: safetensors and JSON. Only what training changed is in them."""

import json
import os
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from memedit.encoders.fingerprint import encoder_fingerprint
from memedit.encoders.knowledge import KnowledgeConfig, KnowledgeEncoder, load_knowledge_encoder
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError

WEIGHTS, RECORD = "knowledge.safetensors", "knowledge.json"
FORMAT = 1


def save_knowledge_encoder(
    folder: Path, knowledge: KnowledgeEncoder, *, encoder: str | Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write a trained knowledge encoder to ``folder``; each file is replaced whole.

    ``encoder`` is the name or place of the text encoder it was trained over; its fingerprint is recorded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.to("cpu", dtype).contiguous() for name, t in knowledge.trained_state().items()}
    partial = folder / f".{WEIGHTS}.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    os.replace(partial, folder / WEIGHTS)
    record = {
        "format": FORMAT,
        "memedit": metadata.version("memedit"),
        "encoder": str(encoder),
        "encoder_fingerprint": encoder_fingerprint(encoder),
        "config": asdict(knowledge.config),
    }
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, folder / RECORD)


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
    path = folder / RECORD
    if not path.is_file():
        raise ModelNotFoundError(f"{folder} holds no trained knowledge encoder ({RECORD}); see memedit train recipe")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, name, wanted = record["format"], str(encoder or record["encoder"]), record["encoder_fingerprint"]
        config = KnowledgeConfig(**record["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error!r}; train again or restore the file") from error
    if version != FORMAT:
        raise InputError(f"{path} has format {version}, this memedit reads {FORMAT}; update memedit")
    seen = encoder_fingerprint(name) if fingerprint is None else fingerprint
    if seen != wanted:
        raise FingerprintMismatchError(
            f"the knowledge encoder in {folder} was trained over encoder {record['encoder']!r} ({wanted[:12]}), but "
            f"the one at hand is {seen[:12]}; use that encoder or train again"
        )
    try:
        tensors = {key: tensor.float() for key, tensor in load_file(folder / WEIGHTS).items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read {folder / WEIGHTS}: {error}") from error
    knowledge = load_knowledge_encoder(name, config)
    knowledge.load_trained_state(tensors)
    return knowledge.eval().requires_grad_(False)
