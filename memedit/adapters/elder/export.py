"""Edits' mixtures as plain PEFT LoRAs, for engines that know nothing of ELDER."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from memedit.adapters.elder.codes import EditCode
from memedit.adapters.elder.mixture import ElderMixture
from memedit.adapters.reader.weights import CONFIG, WEIGHTS, _peft_config
from memedit.errors import InputError
from memedit.whole_files import write_json, write_whole

_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: a folder for each group of edits with one mixture, and what a serving engine must be told.

    ``rank`` is the LoRAs' rank; vLLM takes it as ``--max-lora-rank``, rounded up to one of its own steps.
    """

    folders: tuple[Path, ...]
    rank: int

    @property
    def vllm_flags(self) -> str:
        """Return the flags with which vLLM loads these LoRAs."""
        steps = (8, 16, 32, 64, 128, 256, 320, 512)
        fitting = next((step for step in steps if step >= self.rank), self.rank)
        return f"--enable-lora --max-lora-rank {fitting}"


def effective_lora(mixture: ElderMixture, code: EditCode) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the LoRA that an edit's mixture amounts to: ``down [r, d_in]`` and ``up [d_model, r]`` by module.

    With allocation by edit, r is K, the rank of the shared experts; an edit's own LoRA, of rank one, is padded with
    zeros. With allocation by router, every code is one group: its ``top_k`` experts, equally weighted.
    """
    config = mixture.config
    found: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        if config.allocation == "router":
            chosen = code.bits.view(len(config.layers), config.experts).to(mixture.up)
            weights = (chosen / config.top_k).repeat_interleave(config.rank, dim=1)
            for i, name in enumerate(mixture.names):
                kept = weights[i].nonzero()[:, 0]
                found[name] = mixture.down[i][kept], mixture.up[i][:, kept] * weights[i][kept]
            return found
        own = mixture.own_weights(code.vectors.unsqueeze(0).to(mixture.up))
        rank = config.components
        for i, name in enumerate(mixture.code_names):
            vector = own[i]
            assert vector is not None
            down = torch.zeros(rank, mixture.feature.shape[1])
            up = torch.zeros(mixture.width, rank)
            down[0], up[:, 0] = mixture.feature[i].cpu(), vector[0].cpu()
            found[name] = down, up
        found |= {name: (mixture.down[i], mixture.up[i]) for i, name in enumerate(mixture.names)}
    return found


def export_loras(
    mixture: ElderMixture,
    codes: Mapping[str, EditCode],
    folder: Path,
    *,
    model: Any,
    base_name: str,
    dtype: torch.dtype = torch.float32,
) -> Exported:
    """Write one LoRA in PEFT's form for each group of edits that share a mixture, under ``folder``.

    A group's folder is called by its first edit; ``edits.json`` in it lists all of them. PEFT and serving engines apply
    a LoRA to every token. A mixture of span "answer" was trained to act from the query's last token on: there it is an
    approximation, and answers should be checked.

    Raises:
        InputError: no codes are given.
    """
    if not codes:
        raise InputError("there is no trained edit to export; train first, or name other edits")
    folders, rank = [], 0
    for members in _groups(mixture, codes):
        terms = effective_lora(mixture, codes[members[0]])
        rank = max(len(down) for down, _ in terms.values())
        place = folder / members[0]
        place.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, (down, up) in terms.items():
            tensors[f"{_PREFIX}{name}.lora_A.weight"] = down.to("cpu", dtype).contiguous()
            tensors[f"{_PREFIX}{name}.lora_B.weight"] = up.to("cpu", dtype).contiguous()
        write_whole(place / WEIGHTS, partial(save_file, tensors, metadata={"format": "pt"}))
        config = _peft_config(list(terms), rank, float(rank), base_name, model)  # alpha = rank: scaling 1
        write_json(place / CONFIG, config)
        write_json(place / "edits.json", {"edits": list(members)})
        folders.append(place)
    return Exported(tuple(folders), rank)


def _groups(mixture: ElderMixture, codes: Mapping[str, EditCode]) -> list[list[str]]:
    """Return ids of edits with the same mixture: of one code where routers allocate, of each edit alone otherwise."""
    if mixture.config.allocation == "edit":
        return [[edit_id] for edit_id in codes]
    groups: dict[bytes, list[str]] = {}
    for edit_id, code in codes.items():
        groups.setdefault(code.bits.numpy().tobytes(), []).append(edit_id)
    return list(groups.values())
