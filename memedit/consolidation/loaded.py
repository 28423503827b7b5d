"""A version's weights in memory: recognised, and turned back into the base's for as long as something needs those."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from memedit.consolidation.apply import edited_weights
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.held import EditsInWeights
from memedit.consolidation.records import BASE, DELTA, VersionRecord, read_record
from memedit.errors import FingerprintMismatchError, InputError
from memedit.models.weights import WeightOverlay
from memedit.types import WeightDelta, WeightTerm

_VALUES = 16
_TOLERANCE = 2.0**-7  # twice the rounding of bfloat16: a version loaded in another dtype is the same version


class ModelVersion(Protocol):
    """What a wrapper of a model needs to know of edited weights."""

    @property
    def edits(self) -> EditsInWeights:
        """The edits that the weights answer."""

    def as_base(self, model: Any) -> AbstractContextManager[None]:
        """Let ``model`` have the frozen base's weights inside."""

    def on_rows(self, model: Any, rows: Sequence[int], batch: int) -> AbstractContextManager[None]:
        """Let chosen rows of a batch of ``batch`` meet the edited weights inside, and all others the frozen base's."""


class LoadedVersion:
    """A model whose weights are those of a version.

    The base's weights are its very bytes where the version's folder holds them (:data:`BASE`), else the version's
    without its delta, to rounding.

    Args:
        folder: the version's.
        record: what it holds.
    """

    def __init__(self, folder: Path, record: VersionRecord) -> None:
        self.folder, self.record = folder, record
        self.edits = EditsInWeights(record.edits, record.scope)
        self._base: tuple[list[Any], WeightOverlay] | None = None

    def check(self, model: Any) -> None:
        """Make sure that ``model`` has this version's weights.

        Raises:
            FingerprintMismatchError: a changed weight is another one; the folder's files were mixed up.
        """
        self.check_samples(weight_samples(model, list(self.record.samples)))

    def check_samples(self, found: Mapping[str, Sequence[float]]) -> None:
        """Make sure that weights of which these are samples, by parameter name, are this version's.

        Raises:
            FingerprintMismatchError: a changed weight is missing or another one.
        """
        for name, wanted in self.record.samples.items():
            mine, theirs = torch.tensor(list(found.get(name, ()))), torch.tensor(list(wanted))
            if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=_TOLERANCE, atol=1e-6):
                raise FingerprintMismatchError(
                    f"{self.folder}: the weights are not those its record describes (first in {name}), so it is not "
                    "known which edits are in them; take the folder of another version, or consolidate again"
                )

    @contextmanager
    def as_base(self, model: Any) -> Iterator[None]:
        """Let ``model`` have the frozen base's weights inside; on exit the version's very bytes are back.

        Raises:
            InputError: the version's delta is missing or damaged.
        """
        with self.base(model).on(model):
            yield

    @contextmanager
    def on_rows(self, model: Any, rows: Sequence[int], batch: int) -> Iterator[None]:
        """Let chosen rows of a batch meet this version's weights inside, and all others the frozen base's.

        Raises:
            InputError: the version's delta is missing or damaged.
        """
        if len(set(rows)) == batch:
            yield
            return
        base = self.base(model)
        edited = WeightOverlay({name: model.get_parameter(name).data for name in base.values})
        with base.on(model), edited.on_rows(model, rows, batch):
            yield

    def base(self, model: Any) -> WeightOverlay:
        """Return the frozen base's weights for a model that has this version's, on its device and in its dtype.

        Raises:
            InputError: the version's delta is missing or damaged.
        """
        form = [(p.device, p.dtype) for p in (model.get_parameter(name) for name in self.record.samples)]
        if self._base is None or self._base[0] != form:
            self._base = form, self._read_base(model)
        return self._base[1]

    def _read_base(self, model: Any) -> WeightOverlay:
        try:
            kept = load_file(self.folder / BASE)
        except FileNotFoundError:
            return WeightOverlay(edited_weights(model, negated(load_delta(self.folder / DELTA))))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.folder / BASE} cannot be read: {error}; consolidate again") from error
        return WeightOverlay({name: value.to(model.get_parameter(name)) for name, value in kept.items()})


def negated(delta: WeightDelta) -> WeightDelta:
    """Return the delta that takes ``delta`` away again."""
    return replace(delta, terms={name: _negated(term) for name, term in delta.terms.items()})


def _negated(term: WeightTerm) -> WeightTerm:
    if term.dense is not None:
        return WeightTerm(dense=-term.dense)
    up, down = term.factors
    return WeightTerm(up=-up, down=down)


def open_version(folder: Path | str, model: Any) -> LoadedVersion | None:
    """Return the version that ``model`` was loaded from; None when ``folder`` is no version of ours.

    Raises:
        FingerprintMismatchError: the record is there and describes other weights.
        StoreCorruptError: the record is damaged.
    """
    record = read_record(Path(folder))
    if record is None:
        return None
    found = LoadedVersion(Path(folder), record)
    found.check(model)
    return found


def weight_samples(model: Any, names: Sequence[str]) -> dict[str, list[float]]:
    """Return a few evenly spaced values of these parameters, in float32.

    Raises:
        FingerprintMismatchError: the model has no such parameter.
    """
    sampled = {}
    for name in names:
        try:
            tensor = model.get_parameter(name)
        except AttributeError as error:
            raise FingerprintMismatchError(f"the model has no weight {name!r} ({error})") from error
        sampled[name] = samples_of(tensor)
    return sampled


def samples_of(weight: Tensor) -> list[float]:
    """Return a few evenly spaced values of a weight, in float32."""
    flat = weight.detach().reshape(-1)
    places = torch.linspace(0, flat.numel() - 1, min(_VALUES, flat.numel()), dtype=torch.float64).long()
    return [float(value) for value in flat[places.to(flat.device)].float().cpu()]
