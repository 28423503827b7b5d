"""Views of edits, kept by content hash: least recently used ones go first."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from memedit.encoders.base import Encoder
from memedit.scope.classifier.projection import PackedTokens, Projection, edit_texts
from memedit.scope.classifier.views import EditView
from memedit.types import Edit


class EditViews:
    """Views of edits' texts. Missing ones are encoded, all of a call in one batch. Safe to use from several threads.

    Args:
        encoder: the encoder that queries are encoded with.
        projection: how token vectors become views.
        capacity: how many edits are kept (about 15 kB each).
    """

    def __init__(self, encoder: Encoder, projection: Projection, capacity: int) -> None:
        self._encoder = encoder
        self._projection = projection
        self._capacity = capacity
        self._views: OrderedDict[str, tuple[EditView, ...] | PackedTokens] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._views)

    def missing(self, edits: Sequence[Edit]) -> list[Edit]:
        """Return the edits that are not here, each once."""
        with self._lock:
            return list({e.content_hash: e for e in edits if e.content_hash not in self._views}.values())

    def pack(self, edits: Sequence[Edit]) -> dict[str, bytes]:
        """Encode edits and return their packed tokens by edit id."""
        texts = [edit_texts(edit) for edit in edits]
        encodings = iter(self._encoder.encode_tokens([text for row in texts for text in row]))
        return {
            edit.id: self._projection.pack(edit, [next(encodings) for _ in row])
            for edit, row in zip(edits, texts, strict=True)
        }

    def accept(self, blobs: Mapping[str, bytes]) -> int:
        """Take packed tokens as :meth:`pack` made them; damaged ones are left out. Return how many were taken."""
        packed = [self._projection.unpack(blob) for blob in blobs.values()]
        good = {item.content_hash: item for item in packed if item is not None}
        with self._lock:
            for key, item in good.items():
                self._views.setdefault(key, item)
            self._shrink()
        return len(good)

    def get(self, edits: Sequence[Edit]) -> dict[str, tuple[EditView, ...]]:
        """Return the views of all texts of each edit, by content hash."""
        absent = self.missing(edits)
        fresh = self.pack(absent) if absent else {}
        found: dict[str, tuple[EditView, ...]] = {}
        unpacked = {edit.content_hash: self._projection.unpack(fresh[edit.id]) for edit in absent}
        for edit in {edit.content_hash: edit for edit in edits}.values():
            with self._lock:
                kept = self._views.get(edit.content_hash) or unpacked.get(edit.content_hash)
            if kept is None:  # another thread pushed it out since
                kept = self._projection.unpack(self.pack([edit])[edit.id])
            if isinstance(kept, PackedTokens):
                kept = self._projection.edit_views(edit, kept)
            assert kept is not None, "what was just packed unpacks"
            found[edit.content_hash] = kept
        with self._lock:
            for key, views in found.items():
                self._views[key] = views
                self._views.move_to_end(key)
            self._shrink()
        return found

    def _shrink(self) -> None:
        while len(self._views) > self._capacity:
            self._views.popitem(last=False)
