"""Training of SERAC's counterfactual model (arXiv 2206.06520, equation 3): cross-entropy of the edit's answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from memedit.adapters.serac.counterfactual import trained_parameters
from memedit.adapters.serac.layout import edit_ids
from memedit.errors import InputError
from memedit.models.row_groups import bucket_by_length
from memedit.models.token_rows import TokenRow, answers_loss, pad_rows
from memedit.models.tokenizers import encode_as_data
from memedit.training.loop import Schedule
from memedit.training.sampling import Draw, EditExample, Sampler


@dataclass(frozen=True, slots=True)
class SeracSettings:
    """What a counterfactual model depends on besides its base and data.

    It keeps ``layers`` layers of the base, those without which it says ``probes`` answers least well
    (:mod:`~memedit.training.serac.pruning`), with a LoRA of ``rank`` on each.
    Each step draws ``batch`` edits and asks each by its prompt or, with probability ``paraphrased``, by a paraphrase;
    the answer ends with the end token. ``chat`` of them are asked as a chat's turn. ``swap`` of the targets are another
    edit's, ``words`` of them words out of some prompt, so that targets are spelt out and not told apart. ``dtype`` is
    that of the frozen weights; the LoRA is float32.
    """

    layers: int = 12
    probes: int = 32
    rank: int = 16
    steps: int = 600
    batch: int = 16
    learning_rate: float = 1e-3
    ramp: int = 20
    weight_decay: float = 0.0
    clip: float = 1.0
    paraphrased: float = 0.65
    swap: float = 0.3
    words: float = 0.4
    flatness: float = 0.35
    chat: float = 0.25
    row_tokens: int = 128
    micro_tokens: int = 1024
    seed: int = 0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        counts = ("layers", "probes", "rank", "steps", "batch", "row_tokens", "micro_tokens")
        wrong = [n for n in counts if getattr(self, n) < 1]
        wrong += [n for n in ("paraphrased", "swap", "words", "flatness", "chat") if not 0 <= getattr(self, n) <= 1]
        if wrong or self.learning_rate <= 0 or self.ramp < 0:
            raise InputError(f"SERAC settings out of range: {', '.join(wrong) or 'learning_rate or ramp'}; got {self}")


class SeracTrainer:
    """Runs training steps; the state lies in the LoRA of ``model`` and in ``optimizer`` alone.

    Args:
        model: a counterfactual model (:func:`~memedit.adapters.serac.counterfactual.build_counterfactual`).
        tokenizer: its tokenizer.
        examples: what to learn from.
        settings: see :class:`SeracSettings`.
    """

    def __init__(self, model: Any, tokenizer: Any, examples: Sequence[EditExample], settings: SeracSettings) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.parameters = trained_parameters(model)
        for parameter in self.parameters.values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        self.sampler = sampler_of(examples, settings)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
        )

    @property
    def schedule(self) -> Schedule:
        """Warm-up, and a cosine over all steps."""
        return Schedule(self.settings.steps, warmup=self.settings.ramp)

    def step(self, number: int) -> float:
        """Run step ``number`` (from 0) and return its loss; its data depend on the number and the seed alone."""
        rows = training_rows(self.tokenizer, self.sampler.draw(number, self.settings.batch), self.settings)
        total, mean = sum(row.scored for row in rows), 0.0
        self.optimizer.zero_grad()
        for group in bucket_by_length(rows, tokens=self.settings.micro_tokens):
            loss = answers_loss(self.model, pad_rows(group, int(self.tokenizer.pad_token_id or 0)))
            torch.autograd.backward([loss / total])
            mean += float(loss.detach()) / total
        nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        self.optimizer.step()
        return mean


def sampler_of(examples: Sequence[EditExample], settings: SeracSettings) -> Sampler:
    """Return what draws the exercises of a run."""
    return Sampler(
        examples,
        seed=settings.seed,
        swap=settings.swap,
        words=settings.words,
        paraphrased=settings.paraphrased,
        chat=settings.chat,
        flatness=settings.flatness,
    )


def training_rows(tokenizer: Any, draw: Draw, settings: SeracSettings) -> list[TokenRow]:
    """Return the rows of a draw that are not too long."""
    asked = zip(draw.examples, draw.queries, draw.chat, strict=True)
    rows = [training_row(tokenizer, example, query, n, chat=chat) for n, (example, query, chat) in enumerate(asked)]
    return [row for row in rows if len(row.ids) <= settings.row_tokens]


def training_row(tokenizer: Any, example: EditExample, query: str, source: int, *, chat: bool) -> TokenRow:
    """Return edit, query and answer as token ids, laid out as :func:`~.layout.counterfactual_row` does."""
    line = edit_ids(tokenizer, example.prompt, example.target)
    asked = encode_as_data(tokenizer, f"{query}\n" if chat else query)
    glued = chat or query[-1:].isspace()
    answer = [*encode_as_data(tokenizer, example.target if glued else f" {example.target}"), tokenizer.eos_token_id]
    return TokenRow((*line, *asked, *answer), len(answer), source)
