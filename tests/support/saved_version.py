"""A version of a tiny model in a folder: a random change of one weight, and whatever edits a test has in it."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from memedit.consolidation.apply import applied
from memedit.consolidation.delta_files import save_delta
from memedit.consolidation.loaded import weight_samples
from memedit.consolidation.records import BASE, DELTA, SolvedEdit, VersionRecord, WeightScope, write_record
from memedit.consolidation.verdicts import Verdict
from memedit.models import LoadedModel, model_fingerprint
from memedit.types import Edit, WeightDelta, WeightTerm
from support.tiny import tiny_model, tiny_tokenizer


def version_of(
    folder: Path,
    family: str,
    edits: list[Edit],
    chat: bool | None = True,
    scope: WeightScope = WeightScope.ALWAYS,
    **known: Any,
) -> Path:
    """Save a tiny model with a random change of one weight as a version with these edits in it."""
    model, tokenizer = tiny_model(family), tiny_tokenizer()
    loaded = LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))
    name = "model.layers.1.mlp.down_proj" if family == "llama" else "transformer.h.1.mlp.c_proj"
    rng = np.random.default_rng(0)
    term = WeightTerm(up=rng.normal(size=(32, 2)), down=rng.normal(size=(2, 48)))
    delta = WeightDelta(loaded.fingerprint, "alphaedit", "s", tuple(e.id for e in edits), {name: term})
    with applied(loaded, delta):
        model.save_pretrained(folder)
        samples = weight_samples(model, [f"{name}.weight"])
    tokenizer.save_pretrained(folder)
    save_delta(delta, folder / DELTA)
    if scope is WeightScope.GATED:
        save_file({f"{name}.weight": model.get_parameter(f"{name}.weight").detach()}, folder / BASE)
    solved = tuple(SolvedEdit(e.id, e.content_hash, True, chat=chat, **known) for e in edits)
    fields: dict[str, Any] = {
        "created_at": "2026-01-01T00:00:00+00:00", "namespace": "default", "method": "alphaedit", "base_name": "tiny",
        "base": {}, "settings": {}, "rejected": (), "gates": (), "verdict": Verdict.PASS, "reasons": (), "norms": {},
    }  # fmt: skip
    record = VersionRecord(
        name="v0001", base_fingerprint=loaded.fingerprint, edits=solved, samples=samples, scope=scope, **fields
    )
    write_record(folder, record)
    return folder
