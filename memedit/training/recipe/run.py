"""Train RECIPE (arXiv 2405.03279) for a base model: knowledge encoder, sentinel and prompt head, jointly."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from memedit.adapters.recipe.network import (
    RecipeNetwork,
    RecipeRecord,
    fingerprint_of,
    load_network,
    new_network,
    save_network,
)
from memedit.encoders import encoder_fingerprint
from memedit.encoders.knowledge import KnowledgeConfig
from memedit.models import LoadedModel
from memedit.models.identity import BaseRecord
from memedit.models.training import training_copy
from memedit.training.checkpoints import Checkpoints, run_key
from memedit.training.facts import load_facts
from memedit.training.loop import FitProgress, FitReport, fit
from memedit.training.recipe.trainer import RecipeSettings, RecipeTrainer, StepLosses
from memedit.training.sampling import EditExample


def train_recipe(
    base: LoadedModel,
    *,
    data: Sequence[Path | str] = (),
    whole: Sequence[Path | str] = (),
    out: Path | str,
    settings: RecipeSettings | None = None,
    knowledge: KnowledgeConfig | None = None,
    prompt_tokens: int = 3,
    encoder: str | Path = "minilm",
    start: Path | str | None = None,
    checkpoint_every: int = 50,
    resume: bool = True,
    progress: Callable[[FitProgress[StepLosses]], None] | None = None,
) -> FitReport[StepLosses]:
    """Train a RECIPE network for ``base`` and write it to ``out``.

    Args:
        base: the frozen model in float32; it is not changed.
        data: record files (``.jsonl``; ``path:N`` reads the first N rows) of which the training half is used.
        whole: record files (``path`` or ``path:N``) of which every row is used.
        out: folder to write to; a checkpoint is kept there while training runs.
        settings: see :class:`~memedit.training.recipe.trainer.RecipeSettings`.
        knowledge: shape of the knowledge encoder.
        prompt_tokens: continuous tokens per edit (l in the paper).
        encoder: text encoder under it.
        start: folder of a network for this base and encoder to go on from, whose shape it keeps; None begins afresh.
        checkpoint_every: steps between checkpoints.
        resume: go on from a checkpoint of the same run if ``out`` holds one.
        progress: called after every step.

    The same seed, settings, data and machine give the same network, also through a kill and a resume.

    Raises:
        DatasetError: a file cannot be read or holds no training rows.
        InputError: ``out`` holds a checkpoint of another run.
        FingerprintMismatchError: ``start`` was trained for another base or encoder.
        ModelNotFoundError: there is no such encoder.
    """
    settings, knowledge, out = settings or RecipeSettings(), knowledge or KnowledgeConfig(), Path(out)
    examples = [
        EditExample(fact.prompt, fact.target, fact.asks, fact.off_topic, fact.source)
        for fact in load_facts(data, whole=whole)
        if fact.target
    ]
    identity = BaseRecord.of(base.model, base.tokenizer, base.name)
    if start is None:
        network = new_network(
            base.model, encoder=encoder, knowledge=knowledge, prompt_tokens=prompt_tokens, seed=settings.seed
        )
    else:
        network = _begun(Path(start), base, encoder)
    trainer = RecipeTrainer(network, training_copy(base.model, settings.dtype), base.tokenizer, examples, settings)
    key = run_key(
        settings=asdict(settings),
        knowledge=asdict(network.encoder.config),
        prompts=asdict(network.prompts.config),
        start=None if start is None else fingerprint_of(network.trained_parameters(), identity.to_json()),
        encoder=encoder_fingerprint(encoder),
        base=identity.to_json(),
        examples=[asdict(example) for example in examples],
    )
    began, checkpoints = time.monotonic(), Checkpoints(out, key, checkpoint_every, resume)
    losses = fit(trainer, checkpoints=checkpoints, progress=progress)
    training = {"settings": asdict(settings), "examples": len(examples), "data": _names([*data, *whole])}
    save_network(out, network, RecipeRecord(network.prompts.config, identity, training), encoder=encoder)
    checkpoints.remove()
    return FitReport(out, settings.total, len(examples), time.monotonic() - began, tuple(losses))


def _begun(folder: Path, base: LoadedModel, encoder: str | Path) -> RecipeNetwork:
    """Read a network to go on from."""
    network, record = load_network(folder, encoder=encoder)
    record.base.check(base.model, base.tokenizer, f"the RECIPE network in {folder}")
    for parameter in network.trained_parameters().values():
        parameter.requires_grad_(True)
    return network


def _names(paths: Sequence[Path | str]) -> list[str]:
    return [Path(path).name for path in paths]
