"""Seconds per edit of ELDER, beside a plain LoRA trained on one edit at a time, in the same run."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memedit.adapters.elder.config import ElderConfig
from memedit.adapters.elder.files import load_mixture
from memedit.encoders.base import Progress
from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.models import ModelSpec, load_model
from memedit.models.mixture_hooks import Mixture, Placement, mixture_rows
from memedit.models.training import training_copy
from memedit.training.elder.run import current_mixture
from memedit.training.elder.trainer import ElderSettings, ElderTrainer
from memedit.training.elder.variants import Exercise, exercises
from memedit.types import Edit

_LAYERS, _RANK, _RATE = 6, 8, 5e-3


def run(
    memory: EditMemory,
    *,
    model: str = "smollm2",
    edits: int = 16,
    settings: ElderSettings | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train codes of some of a memory's edits again, and a plain LoRA for each of them, and compare the time.

    Both learn the same wordings to the same loss, in float32 and with the same optimiser. The plain LoRA has rank 8 on
    the MLP outputs of six middle layers; every step runs the whole model on the edit's wordings. Nothing is kept.

    Args:
        memory: a memory on which a training pass has been made.
        model: its base model: alias, path or hub id.
        edits: how many edits to time.
        settings: how ELDER trains.
        progress: called with (plain LoRAs trained, plain LoRAs to train).

    Returns:
        Seconds and processor seconds per edit of both, the ratio, and how many edits each answers token for token.

    Raises:
        InputError: no training pass has been made on the memory.
    """
    settings, pointer = settings or ElderSettings(), current_mixture(memory)
    if pointer is None:
        raise InputError("this memory has no ELDER mixture yet; train one with `memedit train elder`")
    base = load_model(model)
    mixture, _ = load_mixture(Path(pointer["folder"]), base.model, base.tokenizer)
    frozen, everything = training_copy(base.model, "float32"), memory.list()
    chosen = everything[:edits]
    trainer = ElderTrainer(mixture, frozen, base.tokenizer, settings)
    with _timed() as ours:
        codes = [
            code
            for start in range(0, len(chosen), settings.chunk)
            for code in trainer.train_codes(chosen[start : start + settings.chunk], everything)
        ]
    answered = 0
    with _timed() as plain:
        for number, edit in enumerate(chosen):
            answered += _plain_lora(frozen, base.tokenizer, edit, everything, settings)
            if progress is not None:
                progress(number + 1, len(chosen))
    count = len(chosen)
    return {
        "edits": count,
        "elder": {"answered": sum(code.answers for code in codes), **_per_edit(ours, count)},
        "plain_lora": {"answered": answered, **_per_edit(plain, count)},
        "times_as_fast": round(plain[1] / ours[1], 2),
    }


def _plain_lora(model: Any, tokenizer: Any, edit: Edit, others: Sequence[Edit], settings: ElderSettings) -> bool:
    """Train a LoRA on one edit until all wordings are learned; return whether its prompt is answered."""
    rows = exercises(tokenizer, [edit], others, count=settings.wordings, limit=settings.row_tokens, seed=settings.seed)
    terms, parameters = _new_lora(model, settings.seed)
    optimizer = torch.optim.Adam(parameters, lr=_RATE, betas=(0.9, 0.95))
    exact = False
    for step in range(4 * settings.steps):
        batch = rows if settings.per_step >= len(rows) else [rows[0], *_others(rows, step, settings.per_step - 1)]
        optimizer.zero_grad()
        losses = [_row_loss(model, terms, row) for row in batch]
        torch.autograd.backward([torch.stack([loss for loss, _ in losses]).sum()])
        optimizer.step()
        exact = losses[0][1]
        if all(float(loss.detach()) <= settings.enough and right for loss, right in losses) and step >= len(rows):
            break
    return exact


def _others(rows: Sequence[Exercise], step: int, count: int) -> list[Exercise]:
    rest = rows[1:]
    return [rest[(step * count + i) % len(rest)] for i in range(count)]


def _row_loss(model: Any, terms: Sequence[Mixture], row: Exercise) -> tuple[Tensor, bool]:
    ids = torch.tensor([row.query + row.answer[:-1]], device=model.device)
    place = Placement((0,), (0,), 1, ids.shape[1])
    with mixture_rows(model, terms, place, weights=(None,) * len(terms)):
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(row.answer)).logits[0, -len(row.answer) :]
    labels = torch.tensor(row.answer, device=model.device)
    right = bool((logits.argmax(-1) == labels).all())
    return functional.cross_entropy(logits.float(), labels, reduction="sum"), right


def _new_lora(model: Any, seed: int) -> tuple[list[Mixture], list[nn.Parameter]]:
    """Return a fresh LoRA: random ``down``, zero ``up``, on the MLP outputs of middle layers."""
    spec = ModelSpec.of(model)
    names = ElderConfig(allocation="router").for_model(spec).layers[:_LAYERS]
    down = spec.mlp_down
    assert down is not None
    generator, bound = torch.Generator().manual_seed(seed), 1 / math.sqrt(down.in_features)
    terms, parameters = [], []
    for layer in names:
        read = nn.Parameter(torch.empty(_RANK, down.in_features).uniform_(-bound, bound, generator=generator))
        write = nn.Parameter(torch.zeros(spec.hidden_size, _RANK))
        terms.append(Mixture(f"{spec.layers}.{layer}.{down.path}", read, write))
        parameters += [read, write]
    return terms, parameters


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Measure seconds by the clock and by the processor."""
    found: list[float] = []
    clock, processor = time.perf_counter(), time.process_time()
    yield found
    found += [time.perf_counter() - clock, time.process_time() - processor]


def _per_edit(timed: Sequence[float], count: int) -> dict[str, float]:
    return {"seconds_per_edit": round(timed[0] / count, 3), "cpu_seconds_per_edit": round(timed[1] / count, 3)}
