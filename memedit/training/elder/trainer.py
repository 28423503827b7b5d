"""Training a mixture's shared part and the codes of edits (arXiv 2408.11869, section 3; ours where it differs)."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memedit.adapters.elder.codes import EditCode, assigned_code
from memedit.adapters.elder.mixture import ElderMixture
from memedit.errors import InputError, UnsupportedModelError
from memedit.training.checkpoints import Checkpoints
from memedit.training.elder.frozen import FrozenBase, FrozenRows
from memedit.training.elder.variants import exercises
from memedit.training.loop import FitProgress, Schedule, fit
from memedit.types import Edit

_SETTLED = 3
"""The shared part is done when so many steps in a row answer everything with a loss well under ``enough``."""


@dataclass(frozen=True, slots=True)
class ElderSettings:
    """How a mixture and its codes are trained.

    The shared part is trained once, for ``shared_steps`` steps on the first ``shared_edits`` edits, together with
    their codes; after that every edit's code is trained by itself, ``chunk`` edits at once, for at most ``steps``
    steps, and fewer where all its wordings are answered with a loss below ``enough`` (nats, summed over the answer).
    ``wordings`` of each edit are made (:mod:`~memedit.training.elder.variants`); a step sees the prompt and
    ``per_step - 1`` others. With allocation by router there are no codes to train apart: every pass trains the shared
    part for ``shared_steps`` steps on the new edits and ``replay`` older ones, with the guided loss weighted by
    ``guided``. ``dtype`` is that of the frozen model while training ("auto": bfloat16 where the processor computes in
    it, else its own); what is trained is float32.
    """

    shared_edits: int = 64
    shared_steps: int = 40
    shared_learning_rate: float = 2e-3
    steps: int = 28
    learning_rate: float = 0.4
    wordings: int = 5
    per_step: int = 2
    chunk: int = 32
    enough: float = 0.4
    replay: int = 32
    guided: float = 0.01
    clip: float = 1.0
    rows: int = 64
    row_tokens: int = 64
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        counts = ("shared_edits", "shared_steps", "steps", "wordings", "per_step", "chunk", "rows", "row_tokens")
        wrong = [name for name in counts if getattr(self, name) < 1]
        wrong += [n for n in ("shared_learning_rate", "learning_rate", "clip") if getattr(self, n) <= 0]
        wrong += [n for n in ("enough", "guided", "replay") if getattr(self, n) < 0]
        wrong += ["per_step"] if self.per_step > self.wordings else []
        if wrong:
            raise InputError(f"ELDER settings out of range: {', '.join(dict.fromkeys(wrong))}; got {self}")


@dataclass(frozen=True, slots=True)
class StepLoss:
    """A step's rows: mean loss (nats), share answered token for token; and how many edits are still in training."""

    mean: float
    exact: float
    edits: int


@dataclass(frozen=True, slots=True)
class TrainedCode:
    """A trained code, and whether its edit's own prompt is then answered token for token (as kept, in float16)."""

    code: EditCode
    answers: bool


Progress = Callable[[FitProgress[StepLoss]], None]


class ElderTrainer:
    """Trains over a frozen model; the state lies in ``mixture`` and what is returned.

    Args:
        mixture: on the model's device.
        model: the frozen causal LM.
        tokenizer: its tokenizer.
        settings: see :class:`ElderSettings`.
    """

    def __init__(self, mixture: ElderMixture, model: Any, tokenizer: Any, settings: ElderSettings) -> None:
        if any(parameter.requires_grad for parameter in model.parameters()):
            raise UnsupportedModelError("the language model is not frozen; call requires_grad_(False) on it first")
        self.mixture, self.model, self.tokenizer, self.settings = mixture, model, tokenizer, settings
        self.base = FrozenBase(model, mixture.config.first, mixture.config.span)

    def frozen(self, edits: Sequence[Edit], others: Sequence[Edit]) -> list[FrozenRows]:
        """Return what is frozen of all wordings of the edits."""
        chosen = self.settings
        made = exercises(
            self.tokenizer, edits, others, count=chosen.wordings, limit=chosen.row_tokens, seed=chosen.seed
        )
        return self.base.freeze(made, rows=chosen.rows, pad=int(self.tokenizer.pad_token_id or 0))

    def train_codes(
        self, edits: Sequence[Edit], others: Sequence[Edit], *, progress: Progress | None = None
    ) -> list[TrainedCode]:
        """Train the codes of edits, all at once, over a shared part that stays as it is.

        An edit's code depends on the edit, the shared part and the wordings borrowed from ``others``, not on the edits
        beside it.
        """
        rows = self.frozen(edits, others)
        vectors = self._new_vectors(len(edits))
        fitting = _Fitting(self, rows, vectors, Schedule(self.settings.steps, warmup=3, floor=0.1))
        fit(fitting, progress=progress, stage="codes", until=lambda loss: not loss.edits)
        failed = self.failing(rows, vectors.detach().half().float())
        return [TrainedCode(code, place not in failed) for place, code in enumerate(self.codes(rows, vectors))]

    def train_shared(
        self,
        edits: Sequence[Edit],
        others: Sequence[Edit],
        *,
        checkpoints: Checkpoints | None = None,
        progress: Progress | None = None,
    ) -> list[EditCode]:
        """Train the shared part together with the codes of ``edits``, and return these."""
        rows = self.frozen(edits, others)
        own = self._new_vectors(len(edits))
        keys = [assigned_code(edit.content_hash, self.mixture.config) for edit in edits]
        schedule = Schedule(self.settings.shared_steps, warmup=3, floor=0.1)
        fitting = _Fitting(self, rows, own, schedule, shared=True, assigned=torch.stack(keys).to(self.model.device))
        settled = _Settled(self.settings.enough / 3)
        fit(fitting, checkpoints=checkpoints, progress=progress, stage="shared", until=settled)
        with torch.no_grad():  # what all edits have in common is where later ones start from
            mean = own.mean(0)
            self.mixture.origin.add_(mean)
            own.sub_(mean)
        return self.codes(rows, own)

    @torch.no_grad()
    def codes(self, rows: Sequence[FrozenRows], vectors: Tensor) -> list[EditCode]:
        """Return the codes of edits: what the routers choose for their prompts, and their own vectors."""
        bits = torch.zeros(len(vectors), self.mixture.config.code_bits, dtype=torch.uint8)
        for group in rows:
            prompts = group.number == 0
            bits[group.own[prompts].cpu()] = self.mixture.codes(group.states[prompts]).cpu()
        return [EditCode(mine, own.detach().cpu()) for mine, own in zip(bits, vectors, strict=True)]

    @torch.no_grad()
    def failing(self, rows: Sequence[FrozenRows], vectors: Tensor) -> set[int]:
        """Return the edits (by place) whose own prompt is not answered token for token."""
        terms, failed = self.mixture.terms(), set()
        for group in rows:
            prompts = group.select((group.number == 0).nonzero()[:, 0])
            if len(prompts.own):
                logits = self.base.logits(prompts, terms, self._weights(prompts, vectors))
                wrong = (logits.argmax(-1) != prompts.labels).any(1)
                failed |= {int(own) for own in prompts.own[wrong]}
        return failed

    def _new_vectors(self, count: int) -> nn.Parameter:
        shape = (count, len(self.mixture.code_names), self.mixture.width)
        return nn.Parameter(torch.zeros(shape, device=self.model.device))

    def _weights(self, rows: FrozenRows, vectors: Tensor) -> Any:
        if self.mixture.config.allocation == "router":
            return self.mixture.route(rows.states)
        return self.mixture.own_weights(vectors[rows.own])


class _Settled:
    """Whether the shared part is done: nothing is left to train, or a few steps in a row answered everything."""

    def __init__(self, enough: float) -> None:
        self._enough, self._steps = enough, 0

    def __call__(self, loss: StepLoss) -> bool:
        self._steps = self._steps + 1 if loss.exact == 1.0 and loss.mean < self._enough else 0
        return not loss.edits or self._steps >= _SETTLED


class _Fitting:
    """One optimisation: which rows a step sees depends on seed and step alone."""

    def __init__(
        self,
        trainer: ElderTrainer,
        rows: Sequence[FrozenRows],
        vectors: nn.Parameter,
        schedule: Schedule,
        *,
        shared: bool = False,
        assigned: Tensor | None = None,
    ) -> None:
        self.schedule = schedule
        self.trainer, self.rows, self.vectors, self.shared, self.assigned = trainer, rows, vectors, shared, assigned
        settings, mixture = trainer.settings, trainer.mixture
        self.parameters: dict[str, nn.Parameter] = {}
        groups: list[dict[str, Any]] = []
        if vectors.numel():
            self.parameters["vectors"] = vectors
            groups.append({"params": [vectors], "lr": settings.learning_rate})
        for name, parameter in mixture.named_parameters():
            parameter.requires_grad_(shared and name in mixture.shared_parameters())
        if shared:
            self.parameters |= mixture.shared_parameters()
            own = list(mixture.shared_parameters().values())
            groups.append({"params": own, "lr": settings.shared_learning_rate})
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
        self.losses = torch.full((len(vectors), settings.wordings + 64), math.inf)
        numbers = {(int(o), int(n)) for group in rows for o, n in zip(group.own, group.number, strict=True)}
        self.numbers = {own: sorted(n for o, n in numbers if o == own) for own in {o for o, _ in numbers}}

    def step(self, number: int) -> StepLoss:
        settings, active = self.trainer.settings, self._active()
        wanted = self._drawn(number, active)
        self.optimizer.zero_grad()
        total, exact, count = 0.0, 0, 0
        for rows in self.rows:
            chosen = torch.tensor([i for i, key in enumerate(_keys(rows)) if key in wanted], dtype=torch.long)
            if len(chosen):
                loss, right = self._backward(rows.select(chosen.to(rows.own.device)))
                total, exact, count = total + loss, exact + right, count + len(chosen)
        if self.shared:
            shared = [p for name, p in self.parameters.items() if name != "vectors" and p.grad is not None]
            for parameter in shared:  # codes take the sum over their own rows, the shared part the mean over all
                parameter.grad = None if parameter.grad is None else parameter.grad / max(1, count)
            nn.utils.clip_grad_norm_(shared, settings.clip)
        with _kept(self.vectors, sorted(set(self.numbers) - active)):
            self.optimizer.step()
        return StepLoss(total / max(1, count), exact / max(1, count), len(self._active()))

    def _active(self) -> set[int]:
        """Edits with a wording that is not known to be learned."""
        if self.shared:
            return set(self.numbers)
        limit = self.trainer.settings.enough
        return {own for own, numbers in self.numbers.items() if bool((self.losses[own, numbers] > limit).any())}

    def _drawn(self, step: int, active: set[int]) -> set[tuple[int, int]]:
        """Each active edit's prompt and some of its other wordings, those not learned first."""
        rng = random.Random(f"{self.trainer.settings.seed}:{step}")
        limit, drawn = self.trainer.settings.enough, set()
        for own in sorted(active):
            others = [n for n in self.numbers[own] if n]
            rng.shuffle(others)
            others.sort(key=lambda n: bool(self.losses[own, n] <= limit))
            drawn |= {(own, n) for n in [0, *others][: self.trainer.settings.per_step]}
        return drawn

    def _backward(self, rows: FrozenRows) -> tuple[float, int]:
        trainer = self.trainer
        terms = trainer.mixture.terms()
        logits = trainer.base.logits(rows, terms, trainer._weights(rows, self.vectors))
        losses = functional.cross_entropy(logits.float().flatten(0, 1), rows.labels.flatten(), reduction="none")
        losses = losses.view(rows.labels.shape).sum(1)
        loss = losses.sum()
        if self.assigned is not None and trainer.mixture.config.allocation == "router":
            guided = trainer.mixture.guided_loss(rows.states, self.assigned[rows.own])
            loss = loss + trainer.settings.guided * guided.sum()
        torch.autograd.backward([loss])
        right = (logits.argmax(-1) == rows.labels).all(1)
        known = torch.where(right, losses.detach(), math.inf).cpu()
        self.losses[rows.own.cpu(), rows.number.cpu()] = known
        return float(losses.detach().sum()), int(right.sum())


@contextmanager
def _kept(vectors: Tensor, places: list[int]) -> Iterator[None]:
    """Keep the vectors at ``places`` as they are, whatever momentum would still do to them."""
    before = vectors.detach()[places].clone()
    yield
    with torch.no_grad():
        vectors[places] = before


def _keys(rows: FrozenRows) -> list[tuple[int, int]]:
    return list(zip(rows.own.tolist(), rows.number.tolist(), strict=True))
