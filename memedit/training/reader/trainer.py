"""Train the reader: a small LoRA that makes a frozen model use the edits in its prompt, and ignore those off topic.

The idea is LTE's alignment phase (arXiv 2402.11905), with low-rank terms that are switched on only for rows whose
prompt holds edits, so that the base model answers everything else untouched.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memedit.adapters.reader.weights import load_reader, save_reader
from memedit.errors import DatasetError, InputError
from memedit.models import LoadedModel, ModelSpec
from memedit.models.hooks import LowRank, low_rank_rows, shared_inputs, stack_low_rank
from memedit.models.row_groups import bucket_by_length
from memedit.models.training import training_copy
from memedit.training.checkpoints import NAME, load_checkpoint, save_checkpoint
from memedit.training.data import load_facts
from memedit.training.reader.batches import Encoded, encode_examples
from memedit.training.reader.examples import ExampleMaker, Mixture
from memedit.training.reader.facts import Fact, Prose, read_prose
from memedit.training.reader.world import world_facts


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far training has come: losses are means since the last report, ``seconds_left`` an estimate."""

    step: int
    steps: int
    loss: float
    seconds_left: float


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


@dataclass(frozen=True, slots=True)
class ReaderReport:
    """What came out of training: ``losses`` one value a step (resumed steps are NaN)."""

    folder: Path
    steps: int
    facts: int
    seconds: float
    losses: tuple[float, ...]


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
    progress: Callable[[TrainingProgress], None] | None = None,
) -> ReaderReport:
    """Train a reader for ``base`` and write it to ``out`` (PEFT files, see :mod:`memedit.adapters.reader.weights`).

    Args:
        base: the frozen model, loaded in float32; it is not changed.
        data: record files (``.jsonl``; ``path:N`` reads the first N rows only), of which the training half is used
            (:func:`~memedit.evaluation.datasets.splits.is_training_row`), and plain text (``.txt``).
        whole: record files of which every row is used.
        out: folder to write to; a checkpoint is kept there while training runs.
        settings: see :class:`ReaderSettings`.
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
    settings = settings or ReaderSettings()
    facts, prose = load_training_data(data, whole=whole)
    began = time.monotonic()
    first_terms = None if start is None else load_reader(Path(start), base.model, base.tokenizer).terms
    run = _Run.start(base, settings, facts, prose, out=Path(out), terms=first_terms)
    first = load_checkpoint(run.out, **run.state()) if resume else 0
    losses = [math.nan] * first
    for step in range(first, settings.steps):
        losses.append(run.step(step))
        if (step + 1) % checkpoint_every == 0 or step + 1 == settings.steps:
            save_checkpoint(run.out, step=step + 1, **run.state())
        if progress is not None:
            pace = (time.monotonic() - began) / (step + 1 - first)
            progress(TrainingProgress(step + 1, settings.steps, losses[-1], pace * (settings.steps - step - 1)))
    run.finish(base)
    return ReaderReport(Path(out), settings.steps, len(facts), time.monotonic() - began, tuple(losses))


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


class _Run:
    """One training run: parameters, optimizer, and the frozen base in the training dtype."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: ReaderSettings,
        *,
        maker: ExampleMaker,
        out: Path,
        key: str,
        terms: Mapping[str, LowRank] | None,
    ) -> None:
        self.model, self.tokenizer, self.settings, self.maker = model, tokenizer, settings, maker
        self.out, self.key = out, key
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

    @classmethod
    def start(
        cls,
        base: LoadedModel,
        settings: ReaderSettings,
        facts: Sequence[Fact],
        prose: Prose,
        *,
        out: Path,
        terms: Mapping[str, LowRank] | None = None,
    ) -> "_Run":
        model = training_copy(base.model, settings.dtype, own=True)
        chat = bool(getattr(base.tokenizer, "chat_template", None))
        facts = [*facts, *world_facts(settings.world, seed=settings.seed)]
        maker = ExampleMaker(facts, prose, chat=chat, seed=settings.seed, mixture=settings.mixture)
        described = {"settings": asdict(settings), "base": base.fingerprint, "data": _digest(facts, prose)}
        if terms is not None:
            described["start"] = _terms_digest(terms)
        key = json.dumps(described, sort_keys=True)
        out.mkdir(parents=True, exist_ok=True)
        return cls(model, base.tokenizer, settings, maker=maker, out=out, key=key, terms=terms)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"key": self.key, "parameters": self.parameters, "optimizer": self.optimizer}

    def step(self, step: int) -> float:
        """Do one optimizer step and return its loss."""
        examples = self._exercises(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * _schedule(step, self.settings)
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

    def finish(self, base: LoadedModel) -> None:
        """Write the reader and drop the checkpoint."""
        names = [name for group in self.groups for name in group]
        save_reader(
            self.out,
            downs={name: self.parameters[f"{name}.down"] for name in names},
            ups={name: self.parameters[f"{name}.up"] for name in names},
            alpha=self.settings.alpha,
            model=base.model,
            tokenizer=base.tokenizer,
            base_name=base.name,
            training=json.loads(self.key),
        )
        (self.out / NAME).unlink(missing_ok=True)


def _example_loss(log_probabilities: Tensor, example: Encoded) -> Tensor:
    scale = 1 / math.sqrt(len(example.answer))
    if example.soft is None:
        answer = torch.tensor(example.answer, device=log_probabilities.device)
        return -log_probabilities.gather(1, answer[:, None]).sum() * scale
    ids, probabilities = (tensor.to(log_probabilities.device) for tensor in example.soft)
    own = log_probabilities.gather(1, ids)
    # the base's entropy is taken off, so that agreeing with it costs nothing
    return (probabilities * (probabilities.clamp_min(1e-9).log() - own)).sum() * scale


def _schedule(step: int, settings: ReaderSettings) -> float:
    """Linear warm-up, then a cosine to a twentieth."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


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
