"""What identifies an encoder, and what its files must be."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memedit.encoders.finding import find_encoder
from memedit.errors import UnsupportedModelError

_CHUNK = 1 << 20
_WEIGHTS = (".safetensors",)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# What decides the vectors besides the weights; documentation and training logs do not.
_CONFIG_FILES = {
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
}


def encoder_fingerprint(folder: str | Path, *, max_tokens: int | None = None) -> str:
    """Hash an encoder's files without loading it: weights, tokenizer, pooling, default prompt and token limit.

    Weights are read in chunks (90 MB take about 0.1 s). The result is 32 hex digits and does not depend on where
    the folder lies.

    Args:
        folder: an alias, folder or model id, as for :func:`find_encoder`.
        max_tokens: the token limit when it was overridden at load.

    Raises:
        ModelNotFoundError: there is no such encoder.
        UnsupportedModelError: the weights are not safetensors.
    """
    root = find_encoder(folder)
    made_of: dict[str, Any] = {"format": 1, "max_tokens": max_tokens}
    if prompt := _default_prompt(root):
        made_of["prompt"] = prompt
    digest = hashlib.sha256(json.dumps(made_of).encode())
    for path in _files_that_matter(root):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:32]


def _default_prompt(root: Path) -> str:
    """Return the text that the model's settings put in front of every input."""
    try:
        settings = json.loads((root / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        return str(settings["prompts"][settings["default_prompt_name"]] or "")
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or no prompt in it
        return ""


def _files_that_matter(root: Path) -> Iterator[Path]:
    check_weights(root)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        if path.suffix in _WEIGHTS or path.name in _CONFIG_FILES or path.name.startswith("vocab"):
            yield path


def check_weights(root: Path) -> None:
    """Refuse a model whose weights would have to be unpickled.

    Raises:
        UnsupportedModelError: there are no safetensors weights under ``root``.
    """
    if any(root.rglob("*.safetensors")):
        return
    pickled = sorted(p.name for p in root.rglob("*") if p.suffix in _PICKLED)
    found = f"only pickled weights ({', '.join(pickled[:3])})" if pickled else "no weights"
    raise UnsupportedModelError(
        f"encoder folder {root} holds {found}; memedit reads safetensors only: load it once with sentence-transformers "
        "and save it with save_pretrained(path, safe_serialization=True)"
    )
