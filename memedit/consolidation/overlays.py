"""Versions as overlays on their frozen base: made from ``W0`` and the version's delta, put in and out at will."""

from typing import Any

from memedit.consolidation.apply import edited_weights
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.loaded import LoadedVersion, samples_of
from memedit.consolidation.records import DELTA, RECORD, VersionRecord, read_record
from memedit.consolidation.versions import VersionStore
from memedit.errors import StoreCorruptError, UnsupportedModelError
from memedit.models.identity import BaseRecord
from memedit.models.weights import WeightOverlay


class FrozenBase:
    """A base model's own weights, from which any of its versions can be made while the model is at work.

    They are held by reference, so this costs no memory, and overlays that are on the model meanwhile do not matter.

    Args:
        model: the frozen base, with no overlay on it now.
        tokenizer: its tokenizer.
        name: what messages call it.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self._model = model
        self._record = BaseRecord.of(model, tokenizer, name)
        self._weights = {name: parameter.data for name, parameter in model.named_parameters()}

    def version(self, store: VersionStore, name: str) -> tuple[VersionRecord, WeightOverlay]:
        """Return what a version says of itself, and its weights to the rounding of the delta (float32).

        Raises:
            ModelNotFoundError: there is no such version.
            StoreCorruptError: its record or its delta is not as it was written.
            FingerprintMismatchError: it was made from another base model.
            UnsupportedModelError: its delta does not fit the model, or weights that it changes are offloaded.
        """
        folder = store.checked(name, (RECORD, DELTA))
        record = read_record(folder)
        if record is None:
            raise StoreCorruptError(f"{folder / RECORD} is missing")
        BaseRecord.parse(record.base).check_same(self._record, f"version {record.name}")
        delta = load_delta(folder / DELTA)
        values = edited_weights(self._model, delta, self._weights)
        away = [name for name, value in values.items() if value.device.type == "meta"]
        if away:
            raise UnsupportedModelError(f"{away[0]} is offloaded, so no version can be put on this model")
        LoadedVersion(folder, record).check_samples({name: samples_of(value) for name, value in values.items()})
        return record, WeightOverlay(values)
