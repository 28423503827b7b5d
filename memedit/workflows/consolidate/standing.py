"""What is known of one edit in the weights: since when it is there, and in how many words the weights answer it."""

from dataclasses import dataclass

from memedit.consolidation.records import SolvedEdit, VersionRecord, WeightScope
from memedit.consolidation.versions import VersionStore
from memedit.memory import EditMemory
from memedit.types import Edit


@dataclass(frozen=True, slots=True)
class InWeights:
    """An edit in the champion's weights.

    ``since`` is the version by which it last became consolidated, None where the weights do not answer it. They answer
    ``right`` of the ``asked`` wordings; ``any_wording`` says that words which were not asked are left to them too,
    ``chat`` whether they answer the prompt as a chat turn (None: the model knows none). ``reason`` says why they do
    not answer it.
    """

    version: str
    since: str | None
    scope: WeightScope
    served: bool
    asked: int
    right: int
    any_wording: bool
    chat: bool | None
    reason: str

    def __str__(self) -> str:
        if not self.served:
            return f"answered by the memory: in {self.version} {self.reason or 'the weights did not answer it'}"
        told = f"in weights since {self.since or self.version}"
        if not self.asked:
            return told
        share = f"rows answered by weights {100 * self.right / self.asked:.0f}% ({self.right} of {self.asked} asked)"
        return f"{told}, {share}; other words by the {'weights' if self.any_wording else 'memory'}"


def in_weights(memory: EditMemory, store: VersionStore, edit: Edit) -> InWeights | None:
    """Return what the champion knows of an edit; None where it has never been asked of the edit as it is now.

    Raises:
        StoreCorruptError: the ledger or the champion's record is damaged.
    """
    champion = store.champion()
    found = None if champion is None else _solved(champion, edit)
    if champion is None or found is None:
        return None
    return InWeights(
        version=champion.name,
        since=_since(memory, edit, champion) if found.served else None,
        scope=champion.scope,
        served=found.served,
        asked=found.asked,
        right=found.right,
        any_wording=found.any_wording,
        chat=found.chat,
        reason=found.reason,
    )


def _solved(record: VersionRecord, edit: Edit) -> SolvedEdit | None:
    mine = (one for one in (*record.edits, *record.rejected) if one.id == edit.id)
    return next((one for one in mine if one.content_hash == edit.content_hash), None)


def _since(memory: EditMemory, edit: Edit, champion: VersionRecord) -> str:
    """Return the version that the edit's last change of state names."""
    changes = memory.history(edit.id, namespace=edit.namespace)
    named = [change.other for change in changes if change.action == "state" and change.other is not None]
    return named[-1] if named else champion.name
