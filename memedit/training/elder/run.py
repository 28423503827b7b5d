"""Train ELDER from an edit memory: one pass over the edits that wait for it (arXiv 2408.11869, ours where it differs).

A pass writes the mixture to a folder of its own first, then the codes under the mixture's fingerprint into the memory,
then, in one setting, which mixture the memory goes by. A kill at any moment leaves the old state in force or the new
one with some edits still waiting, and the next pass goes on from there.
"""

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from memedit.adapters.elder.adapter import shipped_mixture
from memedit.adapters.elder.codes import EditCode
from memedit.adapters.elder.config import ElderConfig
from memedit.adapters.elder.files import RECORD, load_mixture, read_record, save_mixture
from memedit.adapters.elder.mixture import ElderMixture, initialise
from memedit.errors import InputError, ModelNotFoundError
from memedit.models import LoadedModel, ModelSpec
from memedit.models.identity import BaseRecord
from memedit.models.shipped import shipped_folders
from memedit.models.training import training_copy
from memedit.training.checkpoints import Checkpoints, run_key
from memedit.training.elder.trainer import ElderSettings, ElderTrainer, Progress, StepLoss
from memedit.training.loop import FitProgress
from memedit.types import Edit, EditState

if TYPE_CHECKING:
    from memedit.memory import EditMemory

POINTER = "elder.mixture"
"""Setting of a memory's namespace that names folder and fingerprint of the mixture it goes by."""

_SAMPLE_TEXTS = 48


@dataclass(frozen=True, slots=True)
class ElderReport:
    """What a pass did.

    ``edits`` are in force, ``trained`` were trained now, ``failing`` of these do not answer their own prompt token for
    token. ``parameters`` counts what is added to the base's ``base_parameters``, all codes included.
    """

    folder: Path
    fingerprint: str
    edits: int
    trained: int
    failing: tuple[str, ...]
    parameters: int
    base_parameters: int
    seconds: float
    shared_seconds: float
    shared_trained: bool

    @property
    def seconds_per_edit(self) -> float:
        """Seconds of the whole pass for each edit it trained."""
        return self.seconds / max(1, self.trained)


@dataclass
class _Pass:
    """One training pass and what it works with."""

    base: LoadedModel
    memory: "EditMemory"
    out: Path
    settings: ElderSettings
    namespace: str | None
    checkpoint_every: int
    resume: bool
    progress: Progress | None
    model: Any = field(init=False)
    identity: BaseRecord = field(init=False)

    def __post_init__(self) -> None:
        self.model = training_copy(self.base.model, self.settings.dtype)
        if self.model is not self.base.model and self.model.device.type == "cpu":
            self.model.set_attn_implementation("eager")  # quicker than the fused kernel on short rows
        self.identity = BaseRecord.of(self.base.model, self.base.tokenizer, self.base.name)


def train_elder(
    base: LoadedModel,
    memory: "EditMemory",
    *,
    out: Path | str,
    config: ElderConfig | None = None,
    settings: ElderSettings | None = None,
    namespace: str | None = None,
    afresh: bool = False,
    checkpoint_every: int = 20,
    resume: bool = True,
    progress: Progress | None = None,
) -> ElderReport:
    """Train every edit in force that has no code yet, and put the codes into the memory.

    The first pass starts from the mixture that ships for the base, where one does and no ``config`` is given; otherwise
    it trains the shared part of a new mixture as well, on the first edits, as does one ``afresh``. Later passes with
    allocation by edit leave it as it is, so that earlier edits answer to the token as before; with allocation by
    router they train it on, beside a sample of older edits. Withdrawn edits have no part in any pass.

    Args:
        base: the frozen model; it is not changed.
        memory: the edit memory.
        out: folder under which mixtures are written, each in one of its own.
        config: shape of a new mixture; default :class:`~memedit.adapters.elder.config.ElderConfig`.
        settings: see :class:`~memedit.training.elder.trainer.ElderSettings`.
        namespace: the memory's namespace; None is its own.
        afresh: make a new mixture and train all edits again.
        checkpoint_every: steps between checkpoints while the shared part is trained; codes are kept chunk by chunk.
        resume: go on from a checkpoint of the same pass.
        progress: called after every step, at stage "shared" with the steps of the shared part, at stage "codes" with
            the edits that have their codes.

    Raises:
        FingerprintMismatchError: the memory's mixture was trained for another base model or tokenizer.
        InputError: there is nothing to train, ``config`` is not the shape of the mixture that the memory goes by, or
            ``out`` holds a checkpoint of another pass.
        StoreError: the memory cannot be written.
    """
    started = time.monotonic()
    settings = settings or ElderSettings()
    task = _Pass(base, memory, Path(out), settings, namespace, checkpoint_every, resume, progress)
    edits = memory.list(state=EditState.ACTIVE, namespace=namespace)
    if not edits:
        raise InputError("there is no edit in force to train ELDER from; add edits first")
    pointer = None if afresh else current_mixture(memory, namespace=namespace)
    if pointer is None and config is None and not afresh:
        pointer = _start_from_shipped(task)
    if pointer is None:
        mixture, folder = _new_mixture(task, config or ElderConfig(), edits), None
    else:
        folder = Path(pointer["folder"])
        mixture, _ = load_mixture(folder, base.model, base.tokenizer)
        _check_shape(mixture, config, task.model)
    trained, shared = 0, 0.0
    if folder is None or mixture.config.allocation == "router":
        folder, trained = _train_shared(task, mixture, edits, known=pointer)
        shared = time.monotonic() - started
    fingerprint = str((current_mixture(memory, namespace=namespace) or {})["fingerprint"])
    waiting = _waiting(memory, fingerprint, edits, namespace)
    failing = _train_waiting(task, mixture, fingerprint, waiting, edits)
    return ElderReport(
        folder=folder,
        fingerprint=fingerprint,
        edits=len(edits),
        trained=trained + len(waiting),
        failing=tuple(failing),
        parameters=mixture.parameter_count(len(edits)),
        base_parameters=sum(parameter.numel() for parameter in base.model.parameters()),
        seconds=time.monotonic() - started,
        shared_seconds=shared,
        shared_trained=shared > 0,
    )


def current_mixture(memory: "EditMemory", *, namespace: str | None = None) -> Mapping[str, str] | None:
    """Return ``folder`` and ``fingerprint`` of the mixture that a memory goes by; None before the first pass."""
    kept = memory.get_setting(POINTER, namespace=namespace)
    if kept is None:
        return None
    pointer = {str(name): str(value) for name, value in json.loads(kept).items()}
    if not Path(pointer["folder"]).is_dir():  # memedit may have been installed elsewhere since
        for folder in shipped_folders("elder", RECORD):
            if read_record(folder).fingerprint == pointer["fingerprint"]:
                return {**pointer, "folder": str(folder)}
    return pointer


def waiting_edits(memory: "EditMemory", *, namespace: str | None = None) -> list[Edit]:
    """Return the edits in force that no training pass has seen."""
    edits = memory.list(state=EditState.ACTIVE, namespace=namespace)
    pointer = current_mixture(memory, namespace=namespace)
    return edits if pointer is None else _waiting(memory, pointer["fingerprint"], edits, namespace)


def adapter_options(memory: "EditMemory", *, namespace: str | None = None) -> dict[str, Any]:
    """Return the options with which the ELDER adapter serves a memory.

    Raises:
        InputError: no pass has been made.
    """
    pointer = current_mixture(memory, namespace=namespace)
    if pointer is None:
        raise InputError("this memory has no ELDER mixture yet; train one with `memedit train elder`")
    return {"weights": pointer["folder"]}


def _check_shape(mixture: ElderMixture, config: ElderConfig | None, model: Any) -> None:
    """Refuse another shape than that of the mixture which the memory goes by."""
    if config is not None and config.for_model(ModelSpec.of(model)) != mixture.config:
        raise InputError(
            f"this memory goes by an ELDER mixture of another shape: {mixture.config}; leave the shape out, or train "
            "afresh with the new one"
        )


def _start_from_shipped(task: _Pass) -> Mapping[str, str] | None:
    """Let the memory go by the mixture that ships for this base, where one does."""
    try:
        folder = shipped_mixture(task.base.model)
    except ModelNotFoundError:
        return None
    _point(task, folder, read_record(folder).fingerprint)
    return current_mixture(task.memory, namespace=task.namespace)


def _point(task: _Pass, folder: Path, fingerprint: str) -> None:
    pointer = json.dumps({"folder": str(folder.resolve()), "fingerprint": fingerprint}, sort_keys=True)
    task.memory.set_setting(POINTER, pointer, namespace=task.namespace)


def _waiting(memory: "EditMemory", fingerprint: str, edits: Sequence[Edit], namespace: str | None) -> list[Edit]:
    stored = memory.get_artefacts("elder", fingerprint, [edit.id for edit in edits], namespace=namespace)
    return [edit for edit in edits if edit.id not in stored]


def _new_mixture(task: _Pass, config: ElderConfig, edits: Sequence[Edit]) -> ElderMixture:
    spec = ModelSpec.of(task.model)
    mixture = ElderMixture(config.for_model(spec), spec)
    texts = [f"{edit.prompt} {edit.target}" for edit in edits[:_SAMPLE_TEXTS]]
    initialise(mixture, task.model, task.base.tokenizer, texts, seed=task.settings.seed)
    moved: ElderMixture = mixture.to(task.model.device)
    return moved


def _train_shared(
    task: _Pass, mixture: ElderMixture, edits: Sequence[Edit], *, known: Mapping[str, str] | None
) -> tuple[Path, int]:
    """Train the shared part, write the mixture and the codes, and let the memory go by it; return folder and count."""
    chosen, fresh = _lesson(task, mixture, edits, known)
    if not chosen:
        return Path((known or {})["folder"]), 0
    trainer = ElderTrainer(mixture, task.model, task.base.tokenizer, task.settings)
    checkpoints = _checkpoints(task, mixture, chosen, known)
    codes = trainer.train_shared(chosen, edits, checkpoints=checkpoints, progress=task.progress)
    every = list(chosen)
    if mixture.config.allocation == "router":  # routers have moved: the codes of all edits are read off them again
        every = list(edits)
        codes = _routed_codes(task, mixture, every)
    training = {"settings": asdict(task.settings), "edits": len(every)}
    temporary = task.out / ".new"
    record = save_mixture(temporary, mixture, task.identity, training)
    folder = task.out / record.fingerprint[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(temporary.iterdir()):
        path.replace(folder / path.name)
    temporary.rmdir()
    _keep(task, record.fingerprint, every, codes)
    _point(task, folder, record.fingerprint)
    checkpoints.remove()
    return folder, fresh


def _lesson(
    task: _Pass, mixture: ElderMixture, edits: Sequence[Edit], known: Mapping[str, str] | None
) -> tuple[list[Edit], int]:
    """Return the edits that the shared part is trained on, and how many of them are new."""
    if mixture.config.allocation == "edit":
        chosen = list(edits[: task.settings.shared_edits])
        return chosen, len(chosen)
    new = list(edits) if known is None else _waiting(task.memory, known["fingerprint"], edits, task.namespace)
    fresh = {edit.id for edit in new}
    older = [edit for edit in edits if edit.id not in fresh]
    rng = random.Random(f"{task.settings.seed}:{len(edits)}")
    replayed = rng.sample(older, min(len(older), task.settings.replay)) if new else []
    return [*new, *replayed], len(new)


def _checkpoints(
    task: _Pass, mixture: ElderMixture, edits: Sequence[Edit], known: Mapping[str, str] | None
) -> Checkpoints:
    """Return where the training of the shared part is kept."""
    key = run_key(
        settings=asdict(task.settings),
        config=mixture.config.to_json(),
        base=task.identity.to_json(),
        before=(known or {}).get("fingerprint"),
        edits=[edit.content_hash for edit in edits],
    )
    return Checkpoints(task.out, key, task.checkpoint_every, task.resume)


def _routed_codes(task: _Pass, mixture: ElderMixture, edits: Sequence[Edit]) -> list[EditCode]:
    """Return what the routers choose for the prompts of edits."""
    plain = replace(task.settings, wordings=1, per_step=1)
    trainer = ElderTrainer(mixture, task.model, task.base.tokenizer, plain)
    codes: list[EditCode] = []
    for start in range(0, len(edits), task.settings.chunk):
        part = edits[start : start + task.settings.chunk]
        rows = trainer.frozen(part, ())
        codes += trainer.codes(rows, torch.zeros(len(part), 0, mixture.width))
    return codes


def _train_waiting(
    task: _Pass, mixture: ElderMixture, fingerprint: str, waiting: Sequence[Edit], edits: Sequence[Edit]
) -> list[str]:
    """Train the codes of waiting edits chunk by chunk and keep each chunk; return the ids of those that fail."""
    if not waiting:
        return []
    trainer = ElderTrainer(mixture, task.model, task.base.tokenizer, task.settings)
    failing: list[str] = []
    began = time.monotonic()
    for start in range(0, len(waiting), task.settings.chunk):
        part = waiting[start : start + task.settings.chunk]

        def report(state: FitProgress[StepLoss], done: int = start, size: int = len(part)) -> None:
            if task.progress is not None:
                share = (done + size * state.step / state.steps) / len(waiting)
                left = (time.monotonic() - began) * (1 - share) / share
                task.progress(FitProgress(state.stage, done, len(waiting), state.loss, left))

        trained = trainer.train_codes(part, edits, progress=report)
        _keep(task, fingerprint, part, [each.code for each in trained])
        failing += [edit.id for edit, each in zip(part, trained, strict=True) if not each.answers]
    return failing


def _keep(task: _Pass, fingerprint: str, edits: Sequence[Edit], codes: Sequence[EditCode]) -> None:
    """Put codes into the memory; edits that were withdrawn meanwhile are found out when they are asked for."""
    blobs = {edit.id: code.to_bytes() for edit, code in zip(edits, codes, strict=True)}
    task.memory.put_artefacts("elder", fingerprint, blobs, namespace=task.namespace)
