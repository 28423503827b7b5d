"""Following a namespace's versions: what is champion answers, from a moment after it was made champion."""

import logging
import threading
import time
from typing import Any

from memedit.consolidation.loaded import LoadedVersion
from memedit.consolidation.overlays import FrozenBase
from memedit.consolidation.versions import VersionStore
from memedit.errors import InputError
from memedit.server.active_weights import PLAIN, ActiveVersion, ActiveWeights

_log = logging.getLogger("memedit.server")

RETRY_SECONDS = 30.0
"""After this long a version that could not be loaded is tried again: somebody may have put its files right."""


def fixed_weights(version: LoadedVersion, model: Any) -> ActiveWeights:
    """Return the weights of a server whose model was loaded as a version and stays it: others are answered by its base.

    Raises:
        InputError: the version's delta, by which the base is found again, is missing or damaged.
    """
    base = version.base(model)
    own = ActiveVersion(version.record, base=base)
    return ActiveWeights(version.record.namespace, own, ActiveVersion(overlay=base))


class VersionWatcher:
    """Keeps a server's own weights those of the champion.

    Another champion is read, checked and made from the frozen base beside the one that answers, and then put in its
    place by one assignment: prompts that were looked up before finish on the weights they began with, prompts that are
    looked up after begin on the new ones. What cannot be loaded changes nothing. Safe to use from several threads.

    Args:
        weights: the server's; its own namespace is the one that ``store`` belongs to.
        store: the namespace's versions.
        base: the model they are all made of.

    Raises:
        MemeditError: there is a champion and it cannot be loaded.
    """

    def __init__(self, weights: ActiveWeights, store: VersionStore, base: FrozenBase) -> None:
        self._weights, self._store, self._base = weights, store, base
        self._lock = threading.Lock()
        self._seen = store.stamp()
        self._retry_at = float("inf")
        self.problem: str | None = None
        """Why the champion does not answer, None when it does."""
        self.swaps = 0
        """How often another version, or the base, was put in place."""
        self._weights.own = self.load(store.aliases().champion)

    @property
    def namespace(self) -> str | None:
        """The namespace that is followed."""
        return self._weights.namespace

    def load(self, version: str | None) -> ActiveVersion:
        """Make a version's weights (None: the plain base's) ready; nothing is put in place.

        Raises:
            ModelNotFoundError: there is no such version.
            StoreCorruptError: its files are not as they were written.
            FingerprintMismatchError: it was made from another base model.
            UnsupportedModelError: it does not fit the model.
            InputError: the edits in it are of another namespace.
        """
        if version is None:
            return PLAIN
        record, overlay = self._base.version(self._store, version)
        if record.namespace != self.namespace:
            raise InputError(
                f"version {record.name} has edits of namespace {record.namespace!r} in its weights, so it cannot "
                f"answer namespace {self.namespace!r}; give each namespace a folder of versions of its own"
            )
        return ActiveVersion(record, overlay)

    def look(self) -> None:
        """Put the champion in place if it is another one by now; does no more than a ``stat`` when nothing happened."""
        with self._lock:
            try:
                stamp = self._store.stamp()
                if stamp == self._seen and time.monotonic() < self._retry_at:
                    return
                self._seen, self._retry_at = stamp, float("inf")
                self._put_in_place()
            except Exception as error:  # whatever is wrong with a version, what answers now goes on answering
                self._retry_at = time.monotonic() + RETRY_SECONDS
                if self.problem != str(error):
                    _log.error("the champion cannot be loaded, %s goes on answering: %s", self._name(), error)
                self.problem = str(error)

    def _put_in_place(self) -> None:
        champion = self._store.champion()
        if champion != self._weights.own.record:
            self._weights.own = self.load(None if champion is None else champion.name)
            self.swaps += 1
            _log.info("namespace %r is answered by %s from now on", self.namespace, self._name())
        self.problem = None

    def _name(self) -> str:
        return self._weights.own.version or "the plain base"
