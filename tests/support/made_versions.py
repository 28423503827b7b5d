"""Versions of a small model with a random change in their weights, laid down the way a job lays them down."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memedit.consolidation.apply import applied
from memedit.consolidation.delta_files import save_delta
from memedit.consolidation.loaded import weight_samples
from memedit.consolidation.records import DELTA, SolvedEdit, WeightScope, write_record
from memedit.consolidation.versions import VersionStore
from memedit.models import LoadedModel, ModelSpec
from memedit.models.identity import BaseRecord
from memedit.types import Edit, WeightDelta, WeightTerm
from support.version_files import made_up_record


def made_version(
    store: VersionStore,
    loaded: LoadedModel,
    edits: Sequence[Edit],
    *,
    seed: int,
    layers: Sequence[int] = (0, 1),
    scale: float = 1.0,
    whole: bool = False,
    namespace: str = "default",
    scope: WeightScope = WeightScope.ALWAYS,
) -> str:
    """Make a version that says it answers ``edits``; ``whole`` with weights and tokenizer beside its delta."""
    rng = np.random.default_rng(seed)
    spec = ModelSpec.of(loaded.model)
    down = spec.mlp_down
    assert down is not None
    terms = {
        f"{spec.layers}.{layer}.{down.path}": WeightTerm(
            up=(scale * rng.normal(size=(down.out_features, 2))).astype(np.float32),
            down=rng.normal(size=(2, down.in_features)).astype(np.float32),
        )
        for layer in layers
    }
    delta = WeightDelta(loaded.fingerprint, "alphaedit", "s", tuple(edit.id for edit in edits), terms)

    def build(name: str, folder: Path) -> None:
        with applied(loaded, delta):
            samples = weight_samples(loaded.model, [f"{module}.weight" for module in terms])
            if whole:
                loaded.model.save_pretrained(folder)
                loaded.tokenizer.save_pretrained(folder)
        save_delta(delta, folder / DELTA)
        solved = tuple(SolvedEdit(edit.id, edit.content_hash, True, chat=True) for edit in edits)
        base: dict[str, Any] = BaseRecord.of(loaded.model, loaded.tokenizer, loaded.name).to_json()
        record = made_up_record(name, solved, base=base, samples=samples, base_fingerprint=loaded.fingerprint)
        write_record(folder, replace(record, base_name=loaded.name, namespace=namespace, scope=scope))

    return store.make(build)
