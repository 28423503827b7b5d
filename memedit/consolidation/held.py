"""Which edits a model answers from its weights, in which words and in which form of question."""

from collections.abc import Sequence

from memedit.consolidation.records import SolvedEdit, WeightScope
from memedit.index.words import words
from memedit.types import Edit


class EditsInWeights:
    """Tells which edits a model answers from its weights, so that the memory need not.

    An edit counts only as it was when the weights were made: one that has been changed since has another content hash
    and is the memory's again. ``edit in ...`` asks whether the weights answer it in whatever form it is asked.

    Args:
        edits: what is known of them from the time of consolidation.
        scope: which rows meet the weights.
    """

    def __init__(self, edits: Sequence[SolvedEdit] = (), scope: WeightScope = WeightScope.ALWAYS) -> None:
        self._edits = {edit.id: edit for edit in edits if edit.served}
        self.gated = scope is WeightScope.GATED

    def __contains__(self, edit: object) -> bool:
        return isinstance(edit, Edit) and self.holds(edit, chat=True)

    def holds(self, edit: Edit, *, chat: bool) -> bool:
        """Say whether the weights answer an edit that is asked as a chat turn, or as plain text to be continued."""
        found = self._edits.get(edit.id)
        if found is None or found.content_hash != edit.content_hash:
            return False
        return not (chat and found.chat is False)

    def answer(self, edit: Edit, text: str, *, chat: bool) -> bool:
        """Say whether the weights answer an edit that is asked in these words.

        What was asked when they were made goes by how they did; other words, by whether they did well enough in those
        that were. As a chat turn only the prompt itself was asked.
        """
        if not self.holds(edit, chat=chat):
            return False
        found = self._edits[edit.id]
        if not found.stored:
            return True
        asked = _folded(text)
        if chat and found.chat is not None:
            return asked == _folded(edit.prompt)
        stored = zip((edit.prompt, *edit.paraphrases), found.stored, strict=False)
        known = [right for wording, right in stored if _folded(wording) == asked]
        return known[0] if known else found.any_wording

    def __len__(self) -> int:
        return len(self._edits)


def _folded(text: str) -> list[str]:
    """Return what is left of a text without case, accents, punctuation and spacing."""
    return [word.folded for word in words(text)] or text.split()
