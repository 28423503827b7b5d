"""Train the reader: a small LoRA that makes a frozen model use the edits in its prompt, and ignore those off topic.

The idea is LTE's alignment phase (arXiv 2402.11905), with low-rank terms that are switched on only for rows whose
prompt holds edits, so that the base model answers everything else untouched.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from memedit.adapters.reader.weights import load_reader, save_reader
from memedit.errors import DatasetError
from memedit.models import LoadedModel
from memedit.models.hooks import LowRank
from memedit.models.training import training_copy
from memedit.training.checkpoints import Checkpoints, run_key
from memedit.training.facts import Fact, Prose, load_facts, read_prose
from memedit.training.loop import FitProgress, FitReport, fit
from memedit.training.reader.examples import ExampleMaker
from memedit.training.reader.trainer import ReaderSettings, ReaderTrainer
from memedit.training.reader.world import world_facts


def train_reader(
    base: LoadedModel,
    *,
    data: Sequence[Path | str],
    out: Path | str,
    settings: ReaderSettings | None = None,
    whole: Sequence[Path | str] = (),
    start: Path | str | None = None,
    checkpoint_every: int = 50,
    resume: bool = True,
    progress: Callable[[FitProgress[float]], None] | None = None,
) -> FitReport[float]:
    """Train a reader for ``base`` and write it to ``out`` (PEFT files, see :mod:`memedit.adapters.reader.weights`).

    Args:
        base: the frozen model, loaded in float32; it is not changed.
        data: record files (``.jsonl``; ``path:N`` reads the first N rows only), of which the training half is used
            (:func:`~memedit.evaluation.datasets.splits.is_training_row`), and plain text (``.txt``).
        whole: record files of which every row is used.
        out: folder to write to; a checkpoint is kept there while training runs.
        settings: see :class:`~memedit.training.reader.trainer.ReaderSettings`.
        start: folder of a reader for this base to go on from, of the settings' rank and modules; None begins afresh.
        checkpoint_every: steps between checkpoints.
        resume: go on from a checkpoint of the same settings and data if ``out`` holds one.
        progress: called after every step.

    The same seed, settings, data and machine give the same reader, also through a kill and a resume.

    Raises:
        DatasetError: a file cannot be read or holds no training rows.
        InputError: ``out`` holds a checkpoint of other settings or data, or ``start`` is of another shape.
        FingerprintMismatchError: ``start`` was trained for another base.
    """
    settings, out = settings or ReaderSettings(), Path(out)
    facts, prose = load_training_data(data, whole=whole)
    began = time.monotonic()
    terms = None if start is None else load_reader(Path(start), base.model, base.tokenizer).terms
    described = {"settings": asdict(settings), "base": base.fingerprint}
    trainer, described["data"] = reader_trainer(base, settings, facts, prose, terms=terms)
    if terms is not None:
        described["start"] = _terms_digest(terms)
    checkpoints = Checkpoints(out, run_key(**described), checkpoint_every, resume)
    losses = fit(trainer, checkpoints=checkpoints, progress=progress)
    downs, ups = trainer.factors()
    save_reader(
        out,
        downs=downs,
        ups=ups,
        alpha=settings.alpha,
        model=base.model,
        tokenizer=base.tokenizer,
        base_name=base.name,
        training=described,
    )
    checkpoints.remove()
    return FitReport(out, settings.steps, len(facts), time.monotonic() - began, tuple(losses))


def reader_trainer(
    base: LoadedModel,
    settings: ReaderSettings,
    facts: Sequence[Fact],
    prose: Prose,
    *,
    terms: Mapping[str, LowRank] | None = None,
) -> tuple[ReaderTrainer, str]:
    """Return what trains a reader for ``base`` from facts and made-up ones, and a digest of its data."""
    facts = [*facts, *world_facts(settings.world, seed=settings.seed)]
    chat = bool(getattr(base.tokenizer, "chat_template", None))
    maker = ExampleMaker(facts, prose, chat=chat, seed=settings.seed, mixture=settings.mixture)
    model = training_copy(base.model, settings.dtype, own=True)
    return ReaderTrainer(model, base.tokenizer, settings, maker, terms), _digest(facts, prose)


def load_training_data(data: Sequence[Path | str], *, whole: Sequence[Path | str] = ()) -> tuple[list[Fact], Prose]:
    """Read record files, the training half of ``data`` and every row of ``whole``, and plain text (``.txt``).

    Raises:
        DatasetError: a file does not exist or cannot be read, or there is nothing to train on.
    """
    texts = [Path(item) for item in [*data, *whole] if Path(item).suffix == ".txt"]
    missing = [path for path in texts if not path.is_file()]
    if missing:
        raise DatasetError("no such file; give record files (.jsonl) or plain text (.txt)", path=str(missing[0]))
    halves, wholes = ([item for item in items if Path(item).suffix != ".txt"] for items in (data, whole))
    prose = [read_prose(path) for path in texts]
    passages = tuple(fact for part in prose for fact in part.passages)
    sentences = tuple(sentence for part in prose for sentence in part.sentences)
    return load_facts(halves, whole=wholes), Prose(passages, sentences)


def _terms_digest(terms: Mapping[str, LowRank]) -> str:
    digest = hashlib.sha256()
    for name in sorted(terms):
        digest.update(name.encode() + terms[name].down.numpy().tobytes() + terms[name].up.numpy().tobytes())
    return digest.hexdigest()


def _digest(facts: Sequence[Fact], prose: Prose) -> str:
    digest = hashlib.sha256()
    for fact in [*facts, *prose.passages]:
        digest.update(repr(replace(fact, source="")).encode())
    for sentence in prose.sentences:
        digest.update(sentence.encode())
    return digest.hexdigest()
