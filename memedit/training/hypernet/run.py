"""Train a hypernetwork for a base model: gradients of edits in, factors that answer other wordings out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from memedit.models import LoadedModel
from memedit.models.hypernet.config import HypernetConfig
from memedit.models.hypernet.files import HypernetRecord, new_network, save_network
from memedit.models.identity import BaseRecord
from memedit.models.segments import Segments
from memedit.models.training import training_copy
from memedit.training.checkpoints import Checkpoints, run_key
from memedit.training.facts import load_facts
from memedit.training.hypernet.kinds import trainer_of
from memedit.training.hypernet.lessons import LessonMaker
from memedit.training.hypernet.propagation import example_of, world_examples
from memedit.training.hypernet.settings import HypernetSettings, preset_of
from memedit.training.hypernet.trainer import StepLosses
from memedit.training.loop import FitReport, fit


def train_hypernet(
    base: LoadedModel,
    *,
    preset: str = "mend",
    data: Sequence[Path | str] = (),
    whole: Sequence[Path | str] = (),
    out: Path | str,
    config: HypernetConfig | None = None,
    settings: HypernetSettings | None = None,
    checkpoint_every: int = 50,
    resume: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> FitReport[StepLosses]:
    """Train a hypernetwork for ``base`` and write it to ``out``.

    What lies below the edited layers, and every edit's gradient, is computed once, before the first step.

    Args:
        base: the frozen model in float32; it is not changed.
        preset: published method to follow: mend, propmend, malmen, rledit, knowledge_editor.
        data: record files (``.jsonl``; ``path:N`` reads the first N rows) of which the training half is used.
        whole: record files (``path`` or ``path:N``) of which every row is used.
        out: folder to write to; a checkpoint is kept there while training runs.
        config: the network's shape; None takes the preset's.
        settings: how it is trained; None takes the preset's.
        checkpoint_every: steps between checkpoints.
        resume: go on from a checkpoint of the same run if ``out`` holds one.
        progress: called with (stage, done, to do): "texts" while they are read, "steps" while it is trained.

    The same seed, settings, data and machine give the same network, also through a kill and a resume.

    Raises:
        UnknownNameError: no such preset.
        DatasetError: a file cannot be read or holds no training rows.
        InputError: ``out`` holds a checkpoint of another run, or the model has no single map out of its MLPs.
    """
    chosen, out, began = preset_of(preset), Path(out), time.monotonic()
    settings = settings or chosen.settings
    segments = Segments(training_copy(base.model, settings.dtype))
    config = (config or chosen.config).for_model(segments.spec)
    facts = load_facts(data, whole=whole) if data or whole or not settings.world else []
    hops = config.inner == "text"
    examples = [example_of(fact, hops=hops) for fact in facts if fact.target]
    examples += world_examples(segments, base.tokenizer, settings)
    identity = BaseRecord.of(base.model, base.tokenizer, base.name)
    maker = LessonMaker(segments, base.tokenizer, config, settings)
    lessons = maker.of(examples, None if progress is None else partial(progress, "texts"))
    network = new_network(config, base.model, step_size=settings.step_size, seed=settings.seed)
    trainer = trainer_of(config)(network, segments, lessons, settings)
    key = run_key(
        preset=preset,
        settings=asdict(settings),
        config=config.to_json(),
        base=identity.to_json(),
        examples=[asdict(example) for example in examples],
    )
    checkpoints = Checkpoints(out, key, checkpoint_every, resume)
    told = None if progress is None else lambda state: progress("steps", state.step, state.steps)
    losses = fit(trainer, checkpoints=checkpoints, progress=told)
    names = [Path(path).name for path in [*data, *whole]]
    training = {"settings": asdict(settings), "examples": len(lessons), "data": names}
    save_network(out, network, HypernetRecord(preset, config, identity, training))
    checkpoints.remove()
    return FitReport(out, settings.steps, len(lessons), time.monotonic() - began, tuple(losses))
