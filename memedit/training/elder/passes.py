"""ELDER passes by settings: what the command line, a timer or a server calls; and export for other engines."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from memedit.config import Settings
from memedit.config.overrides import with_overrides
from memedit.config.schemas import ElderPolicy
from memedit.errors import InputError
from memedit.training.elder.run import current_mixture, train_elder, waiting_edits

if TYPE_CHECKING:
    from memedit.adapters.elder.export import Exported
    from memedit.memory import EditMemory

Progress = Callable[[int, int], None]


def is_due(
    memory: "EditMemory", policy: ElderPolicy, *, namespace: str | None = None, now: datetime | None = None
) -> bool:
    """Say whether a training pass is due: enough edits wait, or one has waited long enough."""
    waiting = waiting_edits(memory, namespace=namespace)
    if len(waiting) >= policy.waiting:
        return True
    moment = now or datetime.now(UTC)
    return any(moment - edit.created_at >= timedelta(hours=policy.hours) for edit in waiting)


def run_pass(
    settings: Settings,
    memory: "EditMemory",
    *,
    out: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    shape: Mapping[str, str] | None = None,
    afresh: bool = False,
    only_if_due: bool = False,
    checkpoint_every: int = 20,
    resume: bool = True,
    progress: Progress | None = None,
) -> Any:
    """Load the base model that the settings name and train the memory's waiting edits.

    Args:
        settings: model, and the policy under ``elder``.
        memory: the edit memory.
        out: folder of the mixtures; None is the policy's.
        overrides: training settings by name, see :func:`~memedit.config.overrides.with_overrides`.
        shape: the same for the shape of a new mixture.
        afresh: make a new mixture and train every edit again.
        only_if_due: do nothing, and return which edits wait, unless the policy says that a pass is due.
        checkpoint_every: steps between checkpoints.
        resume: go on from a checkpoint of the same pass.
        progress: called with what is done and to do of a stage: steps of the shared part, then edits.

    Returns:
        The pass's :class:`~memedit.training.elder.run.ElderReport`, or what waits when no pass is due.
    """
    from memedit.adapters.elder.config import ElderConfig
    from memedit.models import load_model
    from memedit.training.elder.trainer import ElderSettings

    if only_if_due and not is_due(memory, settings.elder):
        return {"due": False, "waiting": len(waiting_edits(memory))}
    training = with_overrides(ElderSettings(), overrides or {})
    config = with_overrides(ElderConfig(), shape) if shape else None
    base = load_model(settings.model.name, dtype=settings.model.dtype, revision=settings.model.revision)
    return train_elder(
        base,
        memory,
        out=Path(settings.elder.out) if out is None else out,
        config=config,
        settings=training,
        afresh=afresh,
        checkpoint_every=checkpoint_every,
        resume=resume,
        progress=None if progress is None else lambda state: progress(state.step, state.steps),
    )


def keep_training(
    settings: Settings,
    memory: "EditMemory",
    *,
    every: float,
    stop: Event,
    done: Callable[[Any], None] | None = None,
    **options: Any,
) -> None:
    """Look every so many seconds whether a pass is due, and make it, until ``stop`` is set.

    Args:
        settings: as for :func:`run_pass`.
        memory: as for :func:`run_pass`.
        every: seconds between looks.
        stop: ends the loop, at the latest after the pass that is under way.
        done: called with the report of each pass that was made.
        options: further arguments of :func:`run_pass`.
    """
    while not stop.is_set():
        if is_due(memory, settings.elder):
            report = run_pass(settings, memory, **options)
            if done is not None:
                done(report)
        stop.wait(every)


def export_memory(
    settings: Settings, memory: "EditMemory", folder: Path, *, ids: Sequence[str] | None = None
) -> "Exported":
    """Write the mixtures of a memory's trained edits as PEFT LoRAs.

    Args:
        settings: name the base model.
        memory: the edit memory.
        folder: where to write.
        ids: only these edits.

    Raises:
        InputError: no pass has been made, or none of the edits is trained.
        FingerprintMismatchError: the mixture was trained for another base model.
    """
    from memedit.adapters.elder.codes import EditCode
    from memedit.adapters.elder.export import export_loras
    from memedit.adapters.elder.files import load_mixture
    from memedit.models import load_model
    from memedit.types import EditState

    pointer = current_mixture(memory)
    if pointer is None:
        raise InputError("this memory has no ELDER mixture yet; train one with `memedit train elder`")
    base = load_model(settings.model.name, dtype=settings.model.dtype, revision=settings.model.revision)
    mixture, record = load_mixture(Path(pointer["folder"]), base.model, base.tokenizer)
    wanted = [edit.id for edit in memory.list(state=EditState.ACTIVE) if ids is None or edit.id in ids]
    blobs = memory.get_artefacts("elder", record.fingerprint, wanted)
    codes = {i: EditCode.parse(blobs[i], mixture.config, mixture.width, i) for i in wanted if i in blobs}
    return export_loras(mixture, codes, folder, model=base.model, base_name=base.name)
