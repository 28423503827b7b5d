"""Reader weights on disk: plain PEFT files, and a record of the base model they were trained for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memedit.adapters.reader.layout import LAYOUT_VERSION
from memedit.errors import FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.models.fingerprint import config_digest, plain_values, tokenizer_digest
from memedit.models.hooks import LowRank
from memedit.models.spec import ModelSpec
from memedit.whole_files import write_json, write_whole

WEIGHTS, CONFIG, RECORD, SAMPLE = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "reader.json",
    "base_sample.safetensors",
)
_PREFIX = "base_model.model."
_SAMPLES = 16
_TOLERANCE = 2.0**-7
"""Relative difference allowed between a base weight and its record: twice the rounding of bfloat16."""


@dataclass(frozen=True, slots=True)
class ReaderWeights:
    """A trained reader: low-rank terms by module name (scaling folded in) and ``record``, the content of its JSON."""

    terms: Mapping[str, LowRank]
    record: Mapping[str, Any]


def save_reader(
    folder: Path,
    *,
    downs: Mapping[str, Tensor],
    ups: Mapping[str, Tensor],
    alpha: float,
    model: Any,
    tokenizer: Any,
    base_name: str,
    training: Mapping[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a reader to ``folder``; every file is replaced whole.

    ``downs[name]`` is ``[r, d_in]`` and ``ups[name]`` ``[d_out, r]``, before scaling by ``alpha / r``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank = len(next(iter(downs.values())))
    tensors = {}
    for name in downs:
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = downs[name].detach().to("cpu", dtype).contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = ups[name].detach().to("cpu", dtype).contiguous()
    write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    sample = {name: values.contiguous() for name, values in _sample(model).items()}
    write_whole(folder / SAMPLE, lambda path: save_file(sample, path))
    write_json(folder / CONFIG, _peft_config(list(downs), rank, alpha, base_name, model))
    write_json(
        folder / RECORD,
        {
            "layout": LAYOUT_VERSION,
            "base": base_name,
            "config": config_digest(model.config),
            "tokenizer": tokenizer_digest(tokenizer),
            "memedit": metadata.version("memedit"),
            "training": dict(training),
        },
    )


def load_reader(folder: Path, model: Any, tokenizer: Any) -> ReaderWeights:
    """Read a reader and check that it was trained for this model and tokenizer.

    Raises:
        ModelNotFoundError: the folder holds no reader.
        FingerprintMismatchError: it was trained for another base model, tokenizer or prompt layout; says which.
        InputError: its files are damaged or of a kind of LoRA that this reader cannot apply.
    """
    record = read_record(folder)
    reason = mismatch(folder, record, model, tokenizer)
    if reason is not None:
        raise FingerprintMismatchError(
            f"the reader in {folder} cannot be used: {reason}. It was trained for {record.get('base')!r}; train one "
            "for this model, or use the in_context adapter"
        )
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    unsupported = [key for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern") if config.get(key)]
    if unsupported:
        raise InputError(f"the LoRA in {folder} uses {', '.join(unsupported)}, which the reader does not apply")
    scale = config["lora_alpha"] / config["r"]
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read {folder / WEIGHTS}: {error}") from error
    terms = {}
    for key in tensors:
        if key.endswith(".lora_A.weight"):
            name = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
            up = tensors[f"{_PREFIX}{name}.lora_B.weight"]
            terms[name] = LowRank(down=tensors[key].float(), up=up.float() * scale)
    return ReaderWeights(terms, record)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what ``reader.json`` says.

    Raises:
        ModelNotFoundError: there is no such file, or it is not a reader's.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelNotFoundError(f"no reader in {folder} ({error}); train one or give another folder") from error
    if not isinstance(record, dict) or "layout" not in record:
        raise ModelNotFoundError(f"{folder / RECORD} is not the record of a reader")
    return record


def mismatch(folder: Path, record: Mapping[str, Any], model: Any, tokenizer: Any) -> str | None:
    """Say why the reader of that record was not made for this model and tokenizer; None when it was.

    The base is known by its config, its tokenizer and a sample of every weight, which may differ by what rounding to
    bfloat16 makes: the same model in another dtype is the same base.
    """
    if record["layout"] != LAYOUT_VERSION:
        return f"its prompt layout is version {record['layout']}, this memedit writes version {LAYOUT_VERSION}"
    if record["config"] != config_digest(model.config):
        return "the base model's config is another one"
    if record["tokenizer"] != tokenizer_digest(tokenizer):
        return "the tokenizer (vocabulary, merges, control tokens or chat template) is another one"
    wanted, found = load_file(folder / SAMPLE), _sample(model)
    if wanted.keys() != found.keys():
        return "the base model has other weights by name"
    for name, values in wanted.items():
        near = torch.isclose(found[name], values, rtol=_TOLERANCE, atol=1e-6)
        if found[name].shape != values.shape or not bool(near.all()):
            return f"the base model's weights differ, first in {name}"
    return None


def _sample(model: nn.Module) -> dict[str, Tensor]:
    """Return a few evenly spaced values of every parameter, in float32."""
    sample = {}
    for name, parameter in model.named_parameters():
        flat = plain_values(parameter).reshape(-1)
        at = torch.linspace(0, flat.numel() - 1, min(_SAMPLES, flat.numel()), dtype=torch.float64).long()
        sample[name] = flat[at.to(flat.device)].float().cpu()
    return sample


def _peft_config(names: Sequence[str], rank: int, alpha: float, base_name: str, model: Any) -> dict[str, Any]:
    from peft import LoraConfig, TaskType

    transposed = type(model.get_submodule(names[0])).__name__ == "Conv1D"
    spec = ModelSpec.of(model)
    places = [name.removeprefix(f"{spec.layers}.").split(".", 1) for name in names]
    lasts = [item.path.rsplit(".", 1)[-1] for item in spec.linears]
    # the last component where it says enough, as other engines expect; GPT-2's c_proj is in attention and MLP alike
    short = {path: path.rsplit(".", 1)[-1] for _, path in places}
    targets = sorted({last if lasts.count(last) == 1 else path for path, last in short.items()})
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=rank,
        lora_alpha=alpha if alpha != int(alpha) else int(alpha),
        target_modules=targets,
        layers_to_transform=sorted({int(layer) for layer, _ in places}),
        layers_pattern=spec.layers.rsplit(".", 1)[-1],
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=transposed,
        base_model_name_or_path=base_name,
        inference_mode=True,
    )
    found: dict[str, Any] = {k: v for k, v in config.to_dict().items() if v is not None}
    found["target_modules"] = sorted(found["target_modules"])
    return found
