"""The reader's objective and its training steps: low-rank terms on rows whose prompt holds edits (LTE, 2402.11905)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from memedit.errors import InputError
from memedit.models import ModelSpec
from memedit.models.hooks import LowRank, low_rank_rows, shared_inputs, stack_low_rank
from memedit.models.row_groups import bucket_by_length
from memedit.training.loop import Schedule
from memedit.training.reader.batches import Encoded, encode_examples
from memedit.training.reader.examples import ExampleMaker, Mixture


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What a reader depends on besides base model and data.

    ``modules`` chooses "attention" or "all" linear maps of the layers from ``first_layer`` on (None: from a third of
    the depth: copying happens above that, and both training and decoding get cheaper). ``batch`` counts exercises a
    step, ``micro_tokens`` bounds the padded tokens that go through the model at once. ``dtype`` is that of the frozen
    base while training ("auto": bfloat16 where the processor computes in it, else float32); the LoRA is float32.
    ``world`` counts made-up facts with true consequences (:mod:`~memedit.training.reader.world`) that are mixed in.
    """

    rank: int = 16
    alpha: float = 32.0
    modules: str = "attention"
    first_layer: int | None = None
    steps: int = 500
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: int = 15
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    dtype: str = "auto"
    micro_tokens: int = 768
    world: int = 300
    mixture: Mixture = field(default_factory=Mixture)

    def __post_init__(self) -> None:
        wrong = [name for name in ("rank", "steps", "batch", "micro_tokens") if getattr(self, name) < 1]
        if wrong or self.learning_rate <= 0 or self.modules not in ("attention", "all"):
            raise InputError(
                f"reader settings: {', '.join(wrong) or 'learning_rate or modules'} out of range; rank, steps, batch "
                f"and micro_tokens are at least 1, learning_rate positive, modules 'attention' or 'all'; got {self}"
            )


class ReaderTrainer:
    """Runs training steps; the state lies in ``parameters`` and ``optimizer`` alone.

    Args:
        model: the frozen base in the training dtype; the trainer's own copy.
        tokenizer: its tokenizer.
        settings: see :class:`ReaderSettings`.
        maker: makes the exercises.
        terms: of a trained reader to go on from; None begins afresh.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: ReaderSettings,
        maker: ExampleMaker,
        terms: Mapping[str, LowRank] | None = None,
    ) -> None:
        self.model, self.tokenizer, self.settings, self.maker = model, tokenizer, settings, maker
        names = _module_names(model, settings)
        self.groups = shared_inputs(model, names)
        self.parameters = _initial(model, names, settings) if terms is None else _gone_on_from(terms, names, settings)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.98),
            foreach=True,
        )
        self._ready: dict[int, list[Encoded]] = {}

    @property
    def schedule(self) -> Schedule:
        """Warm-up, then a cosine."""
        return Schedule(self.settings.steps, warmup=self.settings.warmup, start=self.settings.warmup)

    def step(self, number: int) -> float:
        """Run step ``number`` (from 0) and return its loss."""
        examples = self._exercises(number)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in bucket_by_length(examples, tokens=self.settings.micro_tokens):
            loss = self._loss(part) / len(examples)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        self.optimizer.step()
        return total

    def _exercises(self, step: int) -> list[Encoded]:
        """Return the exercises of a step; those of several steps are made at once, so that the base runs in batches."""
        if step not in self._ready:
            ahead = range(step, min(step + 16, self.settings.steps))
            size = self.settings.batch
            drawn = [self.maker.draw(number) for s in ahead for number in range(s * size, (s + 1) * size)]
            encoded = encode_examples(drawn, self.model, self.tokenizer)
            self._ready = {s: encoded[i * size : (i + 1) * size] for i, s in enumerate(ahead)}
        return self._ready.pop(step)

    def _terms(self) -> dict[str, LowRank]:
        scale = self.settings.alpha / self.settings.rank
        names = [name for group in self.groups for name in group]
        return {name: LowRank(self.parameters[f"{name}.down"], self.parameters[f"{name}.up"] * scale) for name in names}

    def _loss(self, part: Sequence[Encoded]) -> Tensor:
        """Return the summed loss of some exercises: cross-entropy on answer tokens, soft where the base answers.

        An exercise of n answer tokens weighs sqrt(n) times its mean loss, between a plain mean and a plain sum.
        """
        width = max(len(example) for example in part)
        ids = torch.zeros((len(part), width), dtype=torch.long)
        for row, example in enumerate(part):
            ids[row, : len(example)] = torch.tensor((*example.prompt, *example.answer))
        groups = stack_low_rank(self._terms(), self.groups, dtype=self.model.dtype, device=self.model.device)
        with low_rank_rows(self.model, groups, rows=range(len(part)), batch=len(part)):
            # right padding under a causal mask: what is scored never sees it, so no attention mask is needed
            hidden = self.model.base_model(input_ids=ids.to(self.model.device), use_cache=False)[0]
        scored = [hidden[row, len(example.prompt) - 1 : len(example) - 1] for row, example in enumerate(part)]
        logits = self._logits(torch.cat(scored))
        log_probabilities = logits.log_softmax(-1)
        losses, start = [], 0
        for example in part:
            count = len(example.answer)
            losses.append(_example_loss(log_probabilities[start : start + count], example))
            start += count
        return torch.stack(losses).sum()

    def _logits(self, hidden: Tensor) -> Tensor:
        """Return logits in float32 for hidden states ``[n, d_model]``, so that only scored positions pay for them."""
        logits: Tensor = self.model.get_output_embeddings()(hidden).float()
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def factors(self) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
        """Return the trained factors by module name: downs ``[r, d_in]`` and ups ``[d_out, r]``."""
        names = [name for group in self.groups for name in group]
        downs, ups = ({name: self.parameters[f"{name}.{side}"] for name in names} for side in ("down", "up"))
        return downs, ups


def _example_loss(log_probabilities: Tensor, example: Encoded) -> Tensor:
    scale = 1 / math.sqrt(len(example.answer))
    if example.soft is None:
        answer = torch.tensor(example.answer, device=log_probabilities.device)
        return -log_probabilities.gather(1, answer[:, None]).sum() * scale
    ids, probabilities = (tensor.to(log_probabilities.device) for tensor in example.soft)
    own = log_probabilities.gather(1, ids)
    # the base's entropy is taken off, so that agreeing with it costs nothing
    return (probabilities * (probabilities.clamp_min(1e-9).log() - own)).sum() * scale


def _module_names(model: Any, settings: ReaderSettings) -> list[str]:
    spec = ModelSpec.of(model)
    chosen = spec.attention if settings.modules == "attention" else spec.linears
    first = spec.n_layers // 3 if settings.first_layer is None else settings.first_layer
    if not 0 <= first < spec.n_layers:
        raise InputError(f"first_layer {first} does not exist: the model has layers 0 to {spec.n_layers - 1}")
    return [f"{spec.layers}.{layer}.{item.path}" for layer in range(first, spec.n_layers) for item in chosen]


def _initial(model: Any, names: Sequence[str], settings: ReaderSettings) -> dict[str, nn.Parameter]:
    """Return LoRA's start: random ``down`` (Kaiming uniform, as PEFT), zero ``up``."""
    generator = torch.Generator().manual_seed(settings.seed)
    spec = ModelSpec.of(model)
    parameters = {}
    for name in names:
        item = next(item for item in spec.linears if name.endswith(f".{item.path}"))
        bound = 1 / math.sqrt(item.in_features)
        down = torch.empty(settings.rank, item.in_features).uniform_(-bound, bound, generator=generator)
        up = torch.zeros(item.out_features, settings.rank)
        parameters[f"{name}.down"] = nn.Parameter(down.to(model.device))
        parameters[f"{name}.up"] = nn.Parameter(up.to(model.device))
    return parameters


def _gone_on_from(
    terms: Mapping[str, LowRank], names: Sequence[str], settings: ReaderSettings
) -> dict[str, nn.Parameter]:
    """Return the factors of a trained reader, its scale taken out again."""
    wrong = [name for name in names if name not in terms or len(terms[name].down) != settings.rank]
    if wrong or len(terms) != len(names):
        raise InputError(
            f"the reader to go on from has terms on {len(terms)} maps, these settings (rank {settings.rank}, modules "
            f"{settings.modules!r}) on {len(names)}{f'; they differ first in {wrong[0]}' if wrong else ''}; give the "
            "settings that it was trained with"
        )
    scale = settings.alpha / settings.rank
    parameters = {}
    for name in names:
        parameters[f"{name}.down"] = nn.Parameter(terms[name].down.clone())
        parameters[f"{name}.up"] = nn.Parameter(terms[name].up / scale)
    return parameters
