"""What polishing looks at: edits behind passing text and in other words, prompts about something else, and text."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memedit.consolidation.base import EditRequest
from memedit.consolidation.contexts import opening_ids
from memedit.consolidation.rows import prompt_ids, target_ids
from memedit.consolidation.wordings import Template, template_of
from memedit.models import encode_as_data

_BARE = 0.4
"""Share of prompts with no text in front."""
_REWORDED = 0.6
"""Share of edits asked in other words, of those there are any for."""
_FEWEST, _MOST = 3, 16
"""Tokens of text in front of the others."""


@dataclass(frozen=True, slots=True)
class AskedRow:
    """Token ids to feed, and the tokens wanted behind positions ``start .. start + len(wanted) - 1`` of them."""

    ids: tuple[int, ...]
    start: int
    wanted: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


class RowMaker:
    """Draws rows by a seed.

    Args:
        tokenizer: the model's.
        requests: the edits, in the order of their ids.
        texts: windows of text as ids, opening tokens included, source by source; each is drawn from as often.
        seed: of the draw.
        wordings: other templates that ask for the same, see :mod:`~memedit.consolidation.wordings`, source by source;
            each that knows any is drawn from as often.
        names: what may stand where an edit's subject does though no edit is about it, by subject, see
            :mod:`~memedit.consolidation.names`.
    """

    def __init__(
        self,
        tokenizer: Any,
        requests: Sequence[EditRequest],
        texts: Sequence[Sequence[Sequence[int]]],
        seed: int,
        wordings: Sequence[Mapping[Template, Sequence[Template]]] = (),
        *,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._tokenizer, self._requests, self._texts = tokenizer, list(requests), texts
        self._opening = opening_ids(tokenizer)
        self._stop = tuple(encode_as_data(tokenizer, "."))
        self._random = random.Random(seed)
        self._waiting: list[EditRequest] = []
        self._prompts = {request.prompt for request in requests}
        self._named = [(r, template) for r in requests if (template := template_of(r)) is not None]
        self._wordings, self._names = wordings, names or {}
        self._subjects = {(request.subject or "").strip().casefold() for request in requests}

    def edits(self, count: int) -> list[AskedRow]:
        """Return rows of the next ``count`` edits: each comes once before any comes again."""
        rows: list[AskedRow] = []
        while len(rows) < min(count, len(self._requests)):
            if not self._waiting:
                self._waiting = self._random.sample(self._requests, len(self._requests))
            request = self._waiting.pop()
            front, spaced = self._front()
            asked = self._reworded(request)
            prompt = (*front, *prompt_ids(self._tokenizer, asked, spaced=spaced)[0])
            wanted = target_ids(self._tokenizer, asked)
            rows.append(AskedRow((*prompt, *wanted[:-1]), len(prompt) - 1, tuple(wanted)))
        return rows

    def swapped(self, count: int) -> list[AskedRow]:
        """Return edits' prompts about somebody or something that none of them is about: the base's to answer."""
        rows: list[AskedRow] = []
        for _ in range(4 * count if self._named else 0):
            if len(rows) == count:
                break
            one, (before, behind) = self._random.choice(self._named)
            text = f"{before}{self._other_name((one.subject or '').strip())}{behind}"
            if text in self._prompts:
                continue
            front, spaced = self._front()
            asked = EditRequest(one.id, text, one.target)
            prompt = (*front, *prompt_ids(self._tokenizer, asked, spaced=spaced)[0])
            rows.append(AskedRow(prompt, len(prompt) - 1))
        return rows

    def _other_name(self, subject: str) -> str:
        """Return another edit's subject, a name that no edit is about, or half the subject and half such a name.

        The first of them may be the subject itself.
        """
        other = (self._random.choice(self._named)[0].subject or "").strip()
        kind, names = self._random.randrange(3), self._names.get(subject)
        if kind == 0 or not names:
            return other
        name = self._random.choice(names)
        mixed = name if kind == 1 else self._mixed(subject, name)
        return other if mixed.casefold() in self._subjects else mixed

    def _mixed(self, *names: str) -> str:
        """Return the beginning of one name and the last word of the other."""
        front, back = (name.split() for name in (names if self._random.random() < 0.5 else names[::-1]))
        return " ".join((*front[: max(1, len(front) - 1)], back[-1]))

    def texts(self, count: int) -> list[Sequence[int]]:
        """Return some windows of text."""
        return [self._window() for _ in range(count)]

    def _window(self) -> Sequence[int]:
        return self._random.choice(self._random.choice(self._texts))

    def _reworded(self, request: EditRequest) -> EditRequest:
        """Return the edit in the words of a template that asks for the same, at times."""
        template = template_of(request)
        sources = [found for known in self._wordings if template is not None and (found := known.get(template))]
        if not sources or self._random.random() >= _REWORDED:
            return request
        before, behind = self._random.choice(self._random.choice(sources))
        return replace(request, prompt=f"{before}{(request.subject or '').strip()}{behind}")

    def _front(self) -> tuple[tuple[int, ...], bool]:
        """Return what comes before a prompt, and whether the prompt needs a space there."""
        if self._random.random() < _BARE:
            return self._opening, False
        window = self._window()[len(self._opening) :]
        length = self._random.randint(_FEWEST, _MOST)
        start = self._random.randrange(max(1, len(window) - length))
        return (*self._opening, *window[start : start + length], *self._stop), True
