"""What a hypernetwork learns from, with everything below the edited layers computed once."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memedit.models.gradients import ScoredRows, capture_gradients
from memedit.models.hypernet.config import HypernetConfig
from memedit.models.hypernet.network import scored
from memedit.models.row_groups import bucket_by_length
from memedit.models.segments import Inputs, Segments
from memedit.models.token_rows import answer_ids, query_ids
from memedit.training.facts import Pair
from memedit.training.hypernet.settings import HypernetSettings


@dataclass(frozen=True, slots=True)
class Example:
    """An edit to learn from: ``asks`` are questions with their answers, ``off_topic`` one it has no bearing on."""

    prompt: str
    target: str
    asks: tuple[Pair, ...] = ()
    off_topic: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """Token ids of a query and the answer that is wanted behind it (none: nothing is wanted).

    ``hidden [q, d_model]`` is what the lowest edited layer is fed at the q tokens that are fed, once computed.
    """

    query: tuple[int, ...]
    answer: tuple[int, ...] = ()
    hidden: Tensor | None = None

    @property
    def fed(self) -> tuple[int, ...]:
        """The ids that a pass is fed."""
        return self.query + self.answer[:-1]

    def __len__(self) -> int:
        return len(self.fed)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One edit: inputs ``[m, n, d_in]`` and output gradients ``[m, n, d_out]`` of m edited maps at its n target tokens.

    ``prompt`` is its own wording, ``asks`` other questions, ``off_topic`` what it has no bearing on.
    """

    inputs: Tensor
    gradients: Tensor
    prompt: Text
    asks: tuple[Text, ...]
    off_topic: Text | None


@dataclass(frozen=True, slots=True)
class _Texts:
    prompt: Text
    asks: tuple[Text, ...]
    off_topic: Text | None


Counted = Callable[[int, int], None]


class LessonMaker:
    """Makes lessons of examples: one pass of the lower layers over every text, and one gradient an edit.

    Args:
        segments: the frozen model.
        tokenizer: its tokenizer.
        config: the network's shape, with its layers.
        settings: see :class:`~memedit.training.hypernet.settings.HypernetSettings`.
    """

    def __init__(self, segments: Segments, tokenizer: Any, config: HypernetConfig, settings: HypernetSettings) -> None:
        self._segments, self._tokenizer = segments, tokenizer
        self._modules, self._first, self._inner = config.modules(segments.spec), config.layers[0], config.inner
        self._ends = config.aggregate == "factors"  # weights are asked by consolidation, which closes targets itself
        self._settings, self._device = settings, next(segments.model.parameters()).device

    def of(self, examples: Sequence[Example], progress: Counted | None = None) -> list[Lesson]:
        """Return the lessons of examples in their order; what is longer than the settings allow is left out.

        Args:
            examples: the edits.
            progress: called with (texts done, texts to do).
        """
        made = [texts for example in examples if (texts := self._texts(example)) is not None]
        flat = [text for texts in made for text in _all(texts)]
        known = {id(text): frozen for text, frozen in zip(flat, self._frozen(flat, progress), strict=True)}
        filled = [
            _Texts(
                known[id(texts.prompt)],
                tuple(known[id(ask)] for ask in texts.asks),
                None if texts.off_topic is None else known[id(texts.off_topic)],
            )
            for texts in made
        ]
        captured = self._captured([texts.prompt for texts in filled])
        pairs = zip(captured, filled, strict=True)
        return [Lesson(*found, texts.prompt, texts.asks, texts.off_topic) for found, texts in pairs]

    def _texts(self, example: Example) -> _Texts | None:
        prompt = self._text(example.prompt, example.target, chat=False)
        if prompt is None:
            return None
        rng = random.Random(f"{self._settings.seed}:{example.prompt}")
        chats = getattr(self._tokenizer, "chat_template", None) is not None
        asks = [
            self._text(ask, answer, chat=chats and rng.random() < self._settings.chat) for ask, answer in example.asks
        ]
        off = query_ids(self._tokenizer, example.off_topic, chat=False) if example.off_topic else []
        fits = 0 < len(off) <= self._settings.row_tokens
        return _Texts(prompt, tuple(ask for ask in asks if ask is not None), Text(tuple(off)) if fits else None)

    def _text(self, query: str, target: str, *, chat: bool) -> Text | None:
        start = query_ids(self._tokenizer, query, chat=chat)
        answer = answer_ids(self._tokenizer, query, target.strip(), chat=chat, ends=self._ends)
        text = Text(tuple(start), tuple(answer))
        fits = start and 0 < len(answer) <= self._settings.answer_tokens and len(text) <= self._settings.row_tokens
        return text if fits else None

    @torch.no_grad()
    def _frozen(self, texts: Sequence[Text], progress: Counted | None) -> list[Text]:
        """Return the texts with their hidden states, in order."""
        found: dict[int, Tensor] = {}
        for group in bucket_by_length([_Numbered(i, text) for i, text in enumerate(texts)], tokens=self._micro):
            inputs = Inputs.of([one.text.fed for one in group], self._device)
            hidden, _ = self._segments.hidden(inputs, last=self._first - 1)
            found |= {one.number: hidden[row, : len(one)].clone() for row, one in enumerate(group)}
            if progress is not None:
                progress(len(found), len(texts))
        return [replace(text, hidden=found[i]) for i, text in enumerate(texts)]

    def _captured(self, prompts: Sequence[Text]) -> list[tuple[Tensor, Tensor]]:
        """Return inputs and output gradients of the edited maps for each prompt with its target."""
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for group in bucket_by_length([_Numbered(i, text) for i, text in enumerate(prompts)], tokens=self._micro):
            pairs = [scored(one.text.query, one.text.answer, self._inner) for one in group]
            rows, start = ScoredRows.of(pairs, self._device), padded([one.text for one in group])
            seen = capture_gradients(self._segments, self._modules, rows, start=start).modules
            for row, one in enumerate(group):
                parts = [seen[name].of_row(row) for name in self._modules]  # one pair of [n, d] a map
                found[one.number] = torch.stack([x for x, _ in parts]), torch.stack([d for _, d in parts])
        return [found[i] for i in range(len(prompts))]

    @property
    def _micro(self) -> int:
        return self._settings.micro_tokens


@dataclass(frozen=True, slots=True)
class _Numbered:
    number: int
    text: Text

    def __len__(self) -> int:
        return len(self.text)


def padded(texts: Sequence[Text]) -> Tensor:
    """Return the hidden states of texts, aligned at their starts, ``[b, q, d_model]``."""
    return torch.nn.utils.rnn.pad_sequence([_hidden(text) for text in texts], batch_first=True)


def _hidden(text: Text) -> Tensor:
    if text.hidden is None:
        raise ValueError("the text's hidden states have not been computed")
    return text.hidden


def _all(texts: _Texts) -> list[Text]:
    return [texts.prompt, *texts.asks, *([] if texts.off_topic is None else [texts.off_topic])]
