"""Which edit comes up in the text of an answer, and from which token on it is to speak."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from memedit.runtime.chains.reading import first_places
from memedit.runtime.recheck.policy import Recheck
from memedit.runtime.recheck.sentences import Pieces
from memedit.scope.text import folded_text
from memedit.types import Hit, ScopeDecision

Look = Callable[[Sequence[str]], list[ScopeDecision]]
"""Texts to decisions by single edits."""
Place = Callable[[Hit, Sequence[int], int], int | None]
"""An edit, an answer's tokens and where its sentence begins, to the token before which its target would be said."""

_WORTH_READING = 0.05
"""Score of an edit for a whole sentence from which on it is looked for within: what a sentence says is no question."""
_CANDIDATES = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """An edit that comes up in an answer: it speaks from behind ``cut`` tokens on."""

    hit: Hit
    cut: int


class Watch:
    """Looks up what an answer says, piece by piece.

    An edit whose subject a sentence names fires where the sentence, read up to the place at which the edit's target
    would be said, asks for it as the beginning of a text does ("... the library, which closes at"). A sentence that
    says the target already needs nothing. Each edit fires once.

    Args:
        tokenizer: the model's.
        policy: when to look.
        look: looks texts up.
        place: finds where a target would be said.
        applied: edits that are in force for the answer already, by id.
    """

    def __init__(
        self, tokenizer: Any, policy: Recheck, *, look: Look, place: Place, applied: Sequence[str] = ()
    ) -> None:
        self._tokenizer, self._look, self._place = tokenizer, look, place
        self._applied = set(applied)
        self._pieces = Pieces(tokenizer, policy.every)

    @property
    def sure(self) -> int:
        """So many tokens of the answer will not be taken back."""
        return self._pieces.checked

    def check(self, ids: Sequence[int], *, ended: bool) -> Finding | None:
        """Look up all pieces that are due; return the first edit that comes up.

        Args:
            ids: the answer's tokens so far, without an end token.
            ended: nothing follows.
        """
        while (end := self._pieces.due(ids, ended=ended)) is not None:
            found = self._found(ids, end)
            if found is not None:
                self._applied.add(found.hit.edit.id)
                self._pieces.checked = found.cut
                return found
            self._pieces.pass_by(ids, end)
        return None

    def _found(self, ids: Sequence[int], end: int) -> Finding | None:
        text = self._pieces.text(ids, end)
        if not text:
            return None
        (decision,) = self._look([text])
        named = first_places(text, [hit.edit for hit in decision.considered if hit.edit.subject])
        hits = [hit for hit in decision.considered if hit.edit.id in named and self._may_speak(hit, text)]
        for hit in hits[:_CANDIDATES]:
            cut = self._place(hit, ids[:end], self._pieces.start)
            if cut is not None and self._pieces.checked <= cut:
                (there,) = self._look([self._pieces.text(ids, cut)])
                fired = next((one for one in there.fired if one.edit.id == hit.edit.id), None)
                if fired is not None:
                    return Finding(fired, cut)
        return None

    def _may_speak(self, hit: Hit, text: str) -> bool:
        said = f" {folded_text(hit.edit.target)} " in f" {folded_text(text)} "
        return hit.edit.id not in self._applied and hit.score >= _WORTH_READING and not said
