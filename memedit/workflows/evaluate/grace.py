"""GRACE in an evaluation under its own router: a codebook of all edits, in the order in which they came."""

from collections.abc import Sequence

from memedit.adapters.base import Adapter
from memedit.adapters.grace.adapter import EPSILON, GraceAdapter
from memedit.adapters.grace.codebook import Codebook
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.types import Edit


def with_codebook(loaded: LoadedModel, adapter: Adapter, memory: EditMemory, edits: Sequence[Edit]) -> GraceAdapter:
    """Return an adapter that routes by a codebook of these edits; what it prepared for them goes into the memory."""
    plain = GraceAdapter(loaded.model, loaded.tokenizer)
    stored = dict(memory.get_artefacts(adapter.name, adapter.fingerprint, [edit.id for edit in edits]))
    made = dict(plain.prepare([edit for edit in edits if edit.id not in stored]))
    memory.put_artefacts(adapter.name, adapter.fingerprint, made)
    codebook = Codebook.of(plain.entries(edits, stored | made), EPSILON)
    return GraceAdapter(loaded.model, loaded.tokenizer, codebook=codebook)
