"""ELDER in an evaluation: trained on the stream's batches in a memory of its own, then handed to the stage's."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memedit.adapters.elder.adapter import ElderAdapter
from memedit.adapters.elder.codes import EditCode, stacked
from memedit.adapters.elder.config import PUBLISHED, ElderConfig
from memedit.adapters.elder.files import read_record
from memedit.encoders.base import Encoder
from memedit.evaluation.cases import Case
from memedit.evaluation.stream import StreamOrder, edits_of
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.training.elder.run import POINTER, current_mixture, train_elder
from memedit.training.elder.trainer import ElderSettings
from memedit.types import EditState

TIMES = "passes.jsonl"


@dataclass(frozen=True, slots=True)
class ElderVariant:
    """A form of ELDER that an evaluation compares: its mixture's shape and its gate."""

    config: ElderConfig | None
    gate: str
    settings: ElderSettings


VARIANTS = {
    "elder": ElderVariant(None, "scope", ElderSettings()),
    "elder:both": ElderVariant(None, "both", ElderSettings()),
    "elder:published": ElderVariant(PUBLISHED, "code", replace(ElderSettings(), wordings=1, per_step=1, replay=0)),
    "elder:published_scope": ElderVariant(PUBLISHED, "scope", ElderSettings()),
}
"""The method names an evaluation knows. The second gates by the edit's own code too. The third is the paper's method:
no wordings but the prompt, no replay, deferral by code; give it the scope "nearest", which routes every row to it. The
last is the paper's mixture behind the scope, with wordings and replay."""


def variant_fingerprint(name: str) -> str:
    """Return the hash of what a variant's outputs depend on besides the base model and the edits."""
    variant = VARIANTS[name]
    shape = None if variant.config is None else variant.config.to_json()
    described = json.dumps([name, variant.gate, shape, str(variant.settings)])
    return hashlib.sha256(described.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TrainedStream:
    """A stream after training: the adapter, and the seconds per edit of each pass."""

    adapter: ElderAdapter
    seconds_per_edit: tuple[float, ...]


def train_stream(
    name: str,
    loaded: LoadedModel,
    encoder: Encoder,
    cases: Sequence[Case],
    stream: StreamOrder,
    *,
    target: EditMemory,
    folder: Path,
) -> TrainedStream:
    """Add the edits batch by batch to a memory in ``folder``, training after each, and copy the codes to ``target``.

    A call that was killed goes on where it stopped: passes that are done have nothing left to train.
    """
    variant = VARIANTS[name]
    folder.mkdir(parents=True, exist_ok=True)
    with EditMemory(folder / "edits.db", encoder=encoder) as memory:
        for number, chunk in enumerate(stream.chunks(edits_of(cases))):
            memory.add_many(chunk, on_conflict="supersede")
            started = time.perf_counter()
            report = train_elder(
                loaded, memory, out=folder / "mixtures", config=variant.config, settings=variant.settings
            )
            if report.trained:
                _note(folder, number, (time.perf_counter() - started) / report.trained, report.trained)
        pointer = current_mixture(memory)
        if pointer is None:
            raise ValueError("a training pass left no mixture")
        codes = _copied(memory, target, pointer)
        adapter = ElderAdapter(
            loaded.model,
            loaded.tokenizer,
            weights=pointer["folder"],
            gate=variant.gate,
            stored=stacked(codes),
        )
    return TrainedStream(adapter, _times(folder))


def _copied(memory: EditMemory, target: EditMemory, pointer: Any) -> list[EditCode]:
    """Copy the codes of edits with the same content from one memory to another."""
    edits = memory.list(state=EditState.ACTIVE)
    blobs = memory.get_artefacts("elder", pointer["fingerprint"], [edit.id for edit in edits])
    by_content = {edit.content_hash: blobs[edit.id] for edit in edits if edit.id in blobs}
    there = {
        edit.id: by_content[edit.content_hash]
        for edit in target.list(state=EditState.ACTIVE)
        if edit.content_hash in by_content
    }
    target.put_artefacts("elder", pointer["fingerprint"], there)
    target.set_setting(POINTER, json.dumps(dict(pointer), sort_keys=True))
    config = read_record(Path(pointer["folder"])).config
    return [EditCode.parse(blob, config, None, edit_id) for edit_id, blob in there.items()]


def _note(folder: Path, number: int, seconds: float, edits: int) -> None:
    with (folder / TIMES).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"chunk": number, "seconds_per_edit": seconds, "edits": edits}) + "\n")


def _times(folder: Path) -> tuple[float, ...]:
    lines = (folder / TIMES).read_text(encoding="utf-8").splitlines() if (folder / TIMES).is_file() else []
    return tuple(float(json.loads(line)["seconds_per_edit"]) for line in lines)
