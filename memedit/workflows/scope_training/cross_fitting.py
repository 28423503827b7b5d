"""Fitting the cross-encoder of :mod:`memedit.scope.classifier.cross_encoder`: a LoRA on the sentence encoder."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from memedit.adapters.common.checkpoints import load_checkpoint, save_checkpoint
from memedit.scope.classifier.cross_encoder import RANK, SCALE, SHARPNESS, load_transformer, pool, tokenised
from memedit.types import FloatArray
from memedit.workflows.scope_training.same_relation import RelationPair, question_weight

_SURE = 0.98
"""What a right pair is to be given; a wrong one one minus that."""


@dataclass(frozen=True, slots=True)
class CrossSettings:
    """How the cross-encoder is fitted: steps of ``batch`` pairs; the step falls to nothing behind ``ramp`` steps."""

    steps: int = 1200
    batch: int = 48
    learning_rate: float = 5e-4
    ramp: int = 60
    checkpoint_every: int = 100


def fit_cross_encoder(
    folder: Path,
    pairs: Sequence[RelationPair],
    settings: CrossSettings,
    *,
    seed: int,
    key: str,
    work: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Mapping[str, FloatArray]:
    """Return the cross-encoder's weights, fitted by cross-entropy; a killed run goes on from its checkpoint.

    Args:
        folder: files of the sentence encoder.
        pairs: what to fit; a group of n pairs with one label weighs sqrt(n), times what its kind counts.
        settings: see :class:`CrossSettings`.
        seed: of the initial weights and of what each step draws.
        key: hash of all that the run depends on.
        work: folder of the checkpoint.
        progress: called with (step, steps).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer, read_out = _model(folder)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters |= {f"out.{name}": p for name, p in read_out.named_parameters()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate, weight_decay=0.01)
    first = load_checkpoint(work, key=key, parameters=parameters, optimizer=optimizer)
    shares = list(accumulate(_shares(pairs)))
    for step in range(first, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (step + 1) / settings.ramp) * (1 - step / settings.steps)
        drawn = random.Random(f"{seed}:{step}").choices(pairs, cum_weights=shares, k=settings.batch)
        wanted = torch.tensor([_SURE if pair.right else 1 - _SURE for pair in drawn])
        torch.manual_seed(seed + step)  # dropout of a step does not depend on where the run was resumed
        with _fast():
            pooled = pool(model, tokenised(tokenizer, [pair.texts for pair in drawn]))
        logits = SHARPNESS * read_out(pooled.float())[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % settings.checkpoint_every == 0:
            save_checkpoint(work, step=step + 1, key=key, parameters=parameters, optimizer=optimizer)
        if progress is not None:
            progress(step + 1, settings.steps)
    return _weights(parameters)


def _model(folder: Path) -> tuple[Any, Any, nn.Linear]:
    from peft import LoraConfig, inject_adapter_in_model

    transformer, tokenizer = load_transformer(folder)
    linears = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    read = [name for name in linears if not name.startswith("pooler")]  # token vectors alone are looked at
    config = LoraConfig(r=RANK, lora_alpha=int(SCALE * RANK), target_modules=read)
    model = inject_adapter_in_model(config, transformer).train()
    read_out = nn.Linear(transformer.config.hidden_size, 1)
    nn.init.zeros_(read_out.weight)
    return model, tokenizer, read_out


def _shares(pairs: Sequence[RelationPair]) -> list[float]:
    sizes = Counter((pair.group, pair.right) for pair in pairs)
    return [question_weight(pair.group) * sizes[pair.group, pair.right] ** -0.5 for pair in pairs]


def _fast() -> AbstractContextManager[Any]:
    """Return a context in which matrix products are in bfloat16 where the processor computes in it."""
    from memedit.models.training import computes_bfloat16

    return torch.autocast("cpu", torch.bfloat16) if computes_bfloat16() else nullcontext()


def _weights(parameters: Mapping[str, nn.Parameter]) -> dict[str, FloatArray]:
    """Return plain arrays in half the width, named as the cross-encoder reads them."""
    found = {}
    for name, parameter in parameters.items():
        plain = name.replace(".lora_A.default.weight", ".a").replace(".lora_B.default.weight", ".b")
        found[plain] = parameter.detach().float().numpy()
    return {name: array.astype(np.float16) for name, array in (found | {"out.weight": found["out.weight"][0]}).items()}
