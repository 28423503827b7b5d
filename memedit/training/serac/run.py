"""Train SERAC's counterfactual model (arXiv 2206.06520) for a base model."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from memedit.adapters.serac.counterfactual import CounterfactualConfig, build_counterfactual
from memedit.adapters.serac.files import SeracRecord, save_counterfactual
from memedit.adapters.serac.layout import LAYOUT_VERSION
from memedit.models import LoadedModel
from memedit.models.identity import BaseRecord
from memedit.models.training import training_copy
from memedit.training.checkpoints import Checkpoints, run_key
from memedit.training.facts import load_facts
from memedit.training.loop import FitProgress, FitReport, fit
from memedit.training.sampling import EditExample
from memedit.training.serac.pruning import choose_layers
from memedit.training.serac.trainer import SeracSettings, SeracTrainer, sampler_of, training_rows
from memedit.whole_files import write_json

LAYERS = "layers.json"
"""Where a run keeps, until it is done, which layers it has found."""
_PROBES = -1
"""The step whose draw layers are found on; training has none of this number."""


Progress = Callable[[FitProgress[float]], None]
"""Told of both stages, "layers" (finding which are kept; no loss) and "train"."""


def train_serac(
    base: LoadedModel,
    *,
    data: Sequence[Path | str] = (),
    whole: Sequence[Path | str] = (),
    out: Path | str,
    settings: SeracSettings | None = None,
    counterfactual: CounterfactualConfig | None = None,
    checkpoint_every: int = 50,
    resume: bool = True,
    progress: Progress | None = None,
) -> FitReport[float]:
    """Train a counterfactual model for ``base`` and write its LoRA to ``out``.

    The scope classifier, SERAC's other half, is trained apart (``memedit train scope``) and serves any base.

    Args:
        base: the frozen model in float32; it is not changed.
        data: record files (``.jsonl``; ``path:N`` reads the first N rows) of which the training half is used.
        whole: record files (``path`` or ``path:N``) of which every row is used.
        out: folder to write to; a checkpoint is kept there while training runs.
        settings: see :class:`~memedit.training.serac.trainer.SeracSettings`.
        counterfactual: which layers of the base it keeps, and the LoRA's rank; None: as ``settings`` say.
        checkpoint_every: steps between checkpoints.
        resume: go on from a checkpoint of the same run if ``out`` holds one.
        progress: called after every step.

    The same seed, settings, data and machine give the same model, also through a kill and a resume.

    Raises:
        DatasetError: a file cannot be read or holds no training rows.
        InputError: ``out`` holds a checkpoint of another run, or the base has too few layers.
    """
    settings, out = settings or SeracSettings(), Path(out)
    examples = [
        EditExample(fact.prompt, fact.target, fact.asks, source=fact.source)
        for fact in load_facts(data, whole=whole)
        if fact.target
    ]
    identity = BaseRecord.of(base.model, base.tokenizer, base.name)
    key = run_key(
        settings=asdict(settings),
        counterfactual=asdict(counterfactual) if counterfactual else None,
        base=identity.to_json(),
        examples=[asdict(example) for example in examples],
    )
    began, tell = time.monotonic(), progress or (lambda state: None)
    frozen = training_copy(base.model, settings.dtype)
    shape = counterfactual
    if shape is None:
        find = partial(_find_layers, frozen, base.tokenizer, examples, settings, tell)
        layers = _found_layers(out / LAYERS, key, find)
        shape = CounterfactualConfig(layers, rank=settings.rank, alpha=2 * settings.rank)
    model = build_counterfactual(frozen, shape, seed=settings.seed)
    trainer = SeracTrainer(model, base.tokenizer, examples, settings)
    checkpoints = Checkpoints(out, key, checkpoint_every, resume)
    losses = fit(trainer, checkpoints=checkpoints, progress=tell)
    names = [Path(path).name for path in [*data, *whole]]
    training = {"settings": asdict(settings), "examples": len(examples), "data": names}
    save_counterfactual(out, model, SeracRecord(shape, identity, LAYOUT_VERSION, training))
    checkpoints.remove()
    (out / LAYERS).unlink(missing_ok=True)
    return FitReport(out, settings.steps, len(examples), time.monotonic() - began, tuple(losses))


def _found_layers(path: Path, key: str, find: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """Return what ``find`` finds; a run with this key that was killed afterwards reads it from ``path``."""
    kept = _read_layers(path, key)
    if kept is None:
        kept = find()
        write_json(path, {"key": key, "layers": kept})
    return kept


def _find_layers(
    base: Any,
    tokenizer: Any,
    examples: Sequence[EditExample],
    settings: SeracSettings,
    tell: Progress,
) -> tuple[int, ...]:
    rows = training_rows(tokenizer, sampler_of(examples, settings).draw(_PROBES, settings.probes), settings)
    began = time.monotonic()

    def told(done: int, total: int) -> None:
        left = (time.monotonic() - began) / done * (total - done)
        tell(FitProgress("layers", done, total, float("nan"), left))

    pad, limit = int(tokenizer.pad_token_id or 0), settings.micro_tokens
    return choose_layers(base, rows, settings.layers, pad_id=pad, micro_tokens=limit, progress=told)


def _read_layers(path: Path, key: str) -> tuple[int, ...] | None:
    """Return the layers that a run with this key has found before, None when it has not."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return tuple(found["layers"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
