"""RECIPE's joint training (arXiv 2405.03279, section 3.4) over a frozen language model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memedit.adapters.recipe.network import RecipeNetwork
from memedit.adapters.recipe.prompts import Spelling
from memedit.errors import InputError, UnsupportedModelError
from memedit.models.row_groups import bucket_by_length
from memedit.models.token_rows import (
    IGNORE,
    PaddedRows,
    TokenRow,
    answer_row,
    pad_rows,
    query_ids,
    scored_logits,
)
from memedit.training.loop import Schedule
from memedit.training.recipe.objective import (
    answer_loss,
    locality_loss,
    neighbour_contrastive,
    out_of_scope_contrastive,
    sentinel_contrastive,
)
from memedit.training.sampling import Draw, EditExample, Sampler


@dataclass(frozen=True, slots=True)
class RecipeSettings:
    """What a RECIPE network depends on besides base model and data.

    ``warm_steps`` train encoder and heads without the language model, on the contrastive terms alone. ``steps`` follow
    with the paper's whole objective on ``batch`` edits, among ``contrasted`` (if that is more) that the contrastive
    terms compare. One row per edit and step is scored (its prompt, or with probability
    ``paraphrased`` a paraphrase), and off-topic queries of ``locality`` of the edits. With ``ends`` the end token
    belongs to the answer, so that free generation stops behind it. ``swap`` of the targets are another edit's,
    ``words`` of them words out of some prompt. ``dtype`` is that of the frozen model; what is trained is float32.

    Rates: ``learning_rate`` of the heads (times ``warm_factor`` while warm), ``steer_rate`` and ``lead_rate`` of what
    makes prompts of what is to be said, ``encoder_learning_rate`` of the encoder's LoRA.
    """

    steps: int = 200
    batch: int = 32
    contrasted: int = 32
    warm_steps: int = 120
    warm_batch: int = 48
    learning_rate: float = 5e-4
    encoder_learning_rate: float = 2e-4
    steer_rate: float = 2e-3
    lead_rate: float = 2e-2
    warm_factor: float = 2.0
    ramp: int = 20
    weight_decay: float = 0.01
    clip: float = 1.0
    locality: float = 0.125
    locality_positions: int = 3
    locality_weight: float = 0.1
    contrastive_weight: float = 1.0
    paraphrased: float = 0.6
    swap: float = 0.2
    words: float = 0.15
    flatness: float = 0.5
    alike: float = 0.4
    chat: float = 0.1
    ends: bool = True
    row_tokens: int = 64
    micro_tokens: int = 2048
    seed: int = 0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        counts = ("batch", "contrasted", "warm_batch", "locality_positions", "row_tokens", "micro_tokens")
        wrong = [name for name in counts if getattr(self, name) < 1]
        wrong += [name for name in ("steps", "warm_steps", "ramp") if getattr(self, name) < 0]
        wrong += [
            n
            for n in ("locality", "paraphrased", "swap", "words", "chat", "flatness", "alike")
            if not 0 <= getattr(self, n) <= 1
        ]
        rates = (self.learning_rate, self.encoder_learning_rate, self.steer_rate, self.lead_rate)
        if min(rates) <= 0 or self.total < 1:
            wrong.append("learning rates or steps")
        if wrong:
            raise InputError(f"RECIPE settings out of range: {', '.join(wrong)}; got {self}")

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.steps + self.warm_steps


@dataclass(frozen=True, slots=True)
class StepLosses:
    """The parts of one step's loss, NaN where none was scored."""

    edit: float
    locality: float
    contrastive: float


class RecipeTrainer:
    """Runs training steps; the state lies in ``network`` and ``optimizer`` alone.

    The text encoder computes in bfloat16 where the frozen model does; trained weights stay float32.

    Args:
        network: what is trained (float32).
        model: the frozen causal LM.
        tokenizer: its tokenizer.
        examples: what to learn from.
        settings: see :class:`RecipeSettings`.
    """

    def __init__(
        self,
        network: RecipeNetwork,
        model: Any,
        tokenizer: Any,
        examples: Sequence[EditExample],
        settings: RecipeSettings,
    ) -> None:
        self.network, self.tokenizer, self.settings = network, tokenizer, settings
        if any(parameter.requires_grad for parameter in model.parameters()):
            raise UnsupportedModelError("the language model is not frozen; call requires_grad_(False) on it first")
        self.model, self.device = model, next(model.parameters()).device
        network.encoder.reduced = model.dtype == torch.bfloat16
        if self.device.type == "cpu":
            network.encoder.backbone.set_attn_implementation("eager")  # as in a training copy of the language model
        self._spelling = Spelling(model, tokenizer, network.prompts.config.tokens)
        self.parameters = network.trained_parameters()
        self.sampler = Sampler(
            examples,
            seed=settings.seed,
            swap=settings.swap,
            words=settings.words,
            flatness=settings.flatness,
            alike=settings.alike,
            paraphrased=settings.paraphrased,
            chat=settings.chat if getattr(tokenizer, "chat_template", None) else 0.0,
        )
        groups = [
            {"params": [p for n, p in self.parameters.items() if _rate_of(n) == rate], "lr": getattr(settings, rate)}
            for rate in ("learning_rate", "encoder_learning_rate", "steer_rate", "lead_rate")
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, foreach=True)

    @property
    def schedule(self) -> Schedule:
        """Warm-up, the warm steps at a rate of their own, then a cosine."""
        chosen = self.settings
        return Schedule(chosen.total, warmup=chosen.ramp, start=chosen.warm_steps, hold=chosen.warm_factor)

    def step(self, number: int) -> StepLosses:
        """Run step ``number`` (from 0); which data it sees depends on the number and the seed alone."""
        warm = number < self.settings.warm_steps
        batch = self.settings.batch
        draw = self.sampler.draw(number, self.settings.warm_batch if warm else max(batch, self.settings.contrasted))
        knowledge = self.network.encoder.knowledge([example.text for example in draw.examples])
        contrastive = self._contrastive(draw, knowledge)
        loss, edit, locality = self.settings.contrastive_weight * contrastive, math.nan, math.nan
        self.optimizer.zero_grad()
        if warm:
            torch.autograd.backward([loss])
        else:
            scored = range(0, len(draw.examples), max(1, len(draw.examples) // batch))[:batch]
            draw = draw.part(scored)
            spelt = self._spelling.of([example.target for example in draw.examples])
            prompts = self.network.prompts(knowledge[list(scored)], spelt)
            leaf = prompts.detach().requires_grad_()
            edit, locality = self._edit_loss(draw, leaf), self._locality_loss(draw, leaf)
            gradient = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
            torch.autograd.backward([loss, prompts], [torch.ones_like(loss), gradient])
        nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        self.optimizer.step()
        return StepLosses(edit, locality, float(contrastive.detach()))

    def _contrastive(self, draw: Draw, knowledge: Tensor) -> Tensor:
        encoder, off = self.network.encoder, [text for text in draw.off_topic if text is not None]
        vectors = encoder.queries([*draw.queries, *off])
        asked, unrelated = vectors[: len(draw.queries)], vectors[len(draw.queries) :]
        sentinel, scale = encoder.sentinel(), encoder.scale
        loss = neighbour_contrastive(asked, knowledge, sentinel, scale=scale)
        loss = loss + sentinel_contrastive(asked, knowledge, sentinel, scale=scale)
        if off:
            loss = loss + out_of_scope_contrastive(unrelated, knowledge, sentinel, scale=scale)
        return loss

    def _edit_loss(self, draw: Draw, prompts: Tensor) -> float:
        """Accumulate into ``prompts.grad`` the gradient of the mean cross-entropy of the answers; return the mean."""
        limit = self.settings.row_tokens
        rows = [
            answer_row(self.tokenizer, query, example.target, i, chat=chat, limit=limit, ends=self.settings.ends)
            for i, (example, query, chat) in enumerate(zip(draw.examples, draw.queries, draw.chat, strict=True))
        ]
        kept = [row for row in rows if row is not None]
        total = sum(row.scored for row in kept)
        mean = 0.0
        for padded in self._groups(kept):
            share = int((padded.labels != IGNORE).sum()) / total
            loss = answer_loss(scored_logits(self.model, padded, prompts), padded.labels.to(prompts.device)) * share
            torch.autograd.backward([loss])
            mean += float(loss.detach())
        return mean

    def _locality_loss(self, draw: Draw, prompts: Tensor) -> float:
        """Accumulate the gradient of the KL term over off-topic queries read behind the edits' prompts."""
        rows: list[TokenRow] = []
        wanted = math.ceil(self.settings.locality * len(draw.examples))
        for i, (query, chat) in enumerate(zip(draw.off_topic, draw.chat, strict=True)):
            if query is None or len(rows) >= wanted:
                continue
            ids = query_ids(self.tokenizer, query, chat=chat)[: self.settings.row_tokens]
            # the token behind the query is not known and not needed: what is compared are whole distributions
            scored = min(self.settings.locality_positions, len(ids))
            rows.append(TokenRow((*ids, ids[-1]), scored, i))
        mean = 0.0
        for padded in self._groups(rows):
            with torch.no_grad():
                base = scored_logits(self.model, padded)
            share = len(padded.ids) / len(rows)
            term = locality_loss(scored_logits(self.model, padded, prompts), base, padded.labels != IGNORE) * share
            torch.autograd.backward([term * self.settings.locality_weight])
            mean += float(term.detach())
        return mean if rows else math.nan

    def _groups(self, rows: Sequence[TokenRow]) -> list[PaddedRows]:
        pad = int(self.tokenizer.pad_token_id or 0)
        return [pad_rows(group, pad) for group in bucket_by_length(rows, tokens=self.settings.micro_tokens)]


def _rate_of(name: str) -> str:
    """Return which of the settings' rates a trained parameter has."""
    if ".backbone." in name:
        return "encoder_learning_rate"
    part = name.removeprefix("prompts.").partition(".")[0]
    return {"mix": "steer_rate", "turn": "steer_rate", "lead": "lead_rate", "gain": "lead_rate"}.get(
        part, "learning_rate"
    )
