"""Second moments of the keys of the edited layers: what the weights do already and should go on doing.

All layers are read in one pass over the text, which stops behind the top layer of them. Sums are float64. A run that is
stopped goes on where it was; a finished one is kept under a complete key and read again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor

from memedit.consolidation.base import ConsolidationSettings, digest
from memedit.consolidation.kept import read_kept, write_tensors
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.samples import own_samples
from memedit.consolidation.site import EditSite
from memedit.errors import InputError
from memedit.models import LoadedModel, cache_home, encode_as_data
from memedit.models.fingerprint import tokenizer_digest
from memedit.models.hooks import capture
from memedit.models.segments import Inputs, Segments, pad_right, unpadded
from memedit.whole_files import write_json

VERSION = 2
"""Raised when statistics are computed differently, so that kept ones are not used again."""
TOKENS = 100_000
WINDOW = 256
"""Tokens of a window; keys of its first token are left out: that one parks attention, whatever it is."""
OWN, GIVEN = "own samples", "texts"
"""Where the text came from: the model, or the caller."""
KEPT_TOKENS = 200_000
_ROWS = 8
_SAVE_EVERY = 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Second moments by layer; ``base`` is the fingerprint of the model, ``key`` the hash of all they depend on.

    ``windows`` are the token ids that they were measured on, at most ``KEPT_TOKENS`` of them.
    """

    base: str
    key: str
    source: str
    layers: Mapping[int, LayerMoments]
    windows: Sequence[Sequence[int]] = ()

    def of(self, layer: int) -> LayerMoments:
        """Return the moments of a layer.

        Raises:
            InputError: they were not gathered for it.
        """
        if layer not in self.layers:
            raise InputError(
                f"there are statistics for layers {sorted(self.layers)}, not for layer {layer}; build them for the "
                "layers of your settings"
            )
        return self.layers[layer]


def build_statistics(
    loaded: LoadedModel,
    settings: ConsolidationSettings,
    texts: Iterable[str] | None = None,
    *,
    store: Path | None = None,
    tokens: int = TOKENS,
    progress: Progress | None = None,
    resume: bool = True,
    checkpoint_every: int = _SAVE_EVERY,
) -> Statistics:
    """Gather second moments of the keys of the settings' layers, or read them when they are kept already.

    Args:
        loaded: the frozen base.
        settings: its layers and module count.
        texts: documents; None lets the model write its own (see :func:`~memedit.consolidation.samples.own_samples`).
        store: folder they are kept in; None is ``statistics`` under :func:`~memedit.cache.cache_home`.
        tokens: most tokens read.
        progress: called with (tokens read, tokens to read).
        resume: go on from a checkpoint of the same run.
        checkpoint_every: batches between checkpoints.

    Raises:
        InputError: the texts hold fewer than two tokens.
        UnsupportedModelError: the model's keys cannot be read.
    """
    site = EditSite.of(loaded, settings)
    if tokens < 2:
        raise InputError(f"statistics need at least 2 tokens, asked for {tokens}")
    documents = None if texts is None else list(texts)
    identity = statistics_identity(loaded, site, documents, tokens)
    folder = (cache_home() / "statistics" if store is None else store) / str(identity["key"])[:32]
    kept = _read(folder, identity)
    if kept is not None:
        return kept
    windows = _windows(loaded, documents, tokens, settings.seed, progress)
    total = sum(map(len, windows))
    if total < 2:
        raise InputError("the texts for the statistics hold no tokens to learn from; give more text, or none at all")
    gathering = _Gathering(site, folder, identity, resume=resume)
    segments = Segments(loaded.model)
    batches = [windows[i : i + _ROWS] for i in range(0, len(windows), _ROWS)]
    for number in range(gathering.done, len(batches)):
        gathering.add(segments, batches[number], loaded.tokenizer.pad_token_id or 0)
        if (number + 1) % checkpoint_every == 0:
            gathering.save()
        if progress is not None:
            progress(sum(map(len, windows[: (number + 1) * _ROWS])), total)
    return _finish(folder, gathering, identity, windows[: KEPT_TOKENS // WINDOW])


def statistics_identity(
    loaded: LoadedModel, site: EditSite, documents: Sequence[str] | None, tokens: int
) -> dict[str, object]:
    """Return everything the statistics depend on, with its hash under ``key``."""
    content = hashlib.sha256()
    for document in documents or ():
        content.update(hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest())
    fields: dict[str, object] = {
        "version": VERSION,
        "base": loaded.fingerprint,
        "modules": [site.module_name(layer) for layer in site.polished],
        "layers": list(site.polished),
        "source": OWN if documents is None else GIVEN,
        "data": content.hexdigest(),
        "tokens": tokens,
        "window": WINDOW,
        "dtype": str(loaded.model.dtype),
        "tokenizer": tokenizer_digest(loaded.tokenizer),
        "transformers": transformers.__version__ if documents is None else "",
    }
    fields["key"] = digest(fields)
    return fields


def _windows(
    loaded: LoadedModel, documents: Sequence[str] | None, tokens: int, seed: int, progress: Progress | None
) -> list[list[int]]:
    if documents is None:
        return own_samples(loaded, tokens=tokens, window=WINDOW, seed=seed, progress=progress)
    return list(_cut(loaded, documents, tokens))


def _cut(loaded: LoadedModel, documents: Sequence[str], tokens: int) -> Iterator[list[int]]:
    left = tokens
    for document in documents:
        for start in range(0, len(document), _PIECE):  # tokenizers are slow on very long texts
            ids = encode_as_data(loaded.tokenizer, document[start : start + _PIECE])[:left]
            left -= len(ids)
            yield from (ids[i : i + WINDOW] for i in range(0, len(ids), WINDOW) if len(ids) - i > 1)
            if left <= 1:
                return


_PIECE = 20_000


class _Gathering:
    """Sums of ``k k^T`` by layer, and how many batches are in them."""

    def __init__(self, site: EditSite, folder: Path, identity: Mapping[str, object], *, resume: bool) -> None:
        width = site.linear.in_features
        self.site = site
        self.sums = {layer: torch.zeros((width, width), dtype=torch.float64) for layer in site.polished}
        self.count = self.done = 0
        self._path, self._key = folder / "partial.safetensors", str(identity["key"])
        if resume:
            self._load()

    @torch.no_grad()
    def add(self, segments: Segments, windows: Sequence[Sequence[int]], pad: int) -> None:
        """Run one batch through the layers up to the top edited one and add its keys."""
        names = {layer: self.site.module_name(layer) for layer in self.site.polished}
        inputs = Inputs.of(windows, segments.model.device, pad=pad)
        with capture(segments.model, list(names.values()), outputs=False) as seen:
            segments.hidden(inputs, last=self.site.polished[-1])
        counted = inputs.mask.bool()
        counted[:, 0] = False
        for layer, name in names.items():
            keys = seen.inputs[name][0][counted].float()
            self.sums[layer] += (keys.T @ keys).double().cpu()
        self.count += int(counted.sum())
        self.done += 1

    def save(self) -> None:
        """Write the sums so far; the old checkpoint is replaced in one move."""
        tensors = {str(layer): total for layer, total in self.sums.items()}
        header = {"key": self._key, "count": str(self.count), "done": str(self.done)}
        write_tensors(self._path, tensors, header)

    def _load(self) -> None:
        found = read_kept(
            self._path,
            self._key,
            lambda tensors, header: (
                {layer: tensors[str(layer)] for layer in self.sums},
                int(header["count"]),
                int(header["done"]),
            ),
        )
        if found is not None:  # an unreadable checkpoint only costs the time
            self.sums, self.count, self.done = found

    def clear(self) -> None:
        """Remove the checkpoint."""
        self._path.unlink(missing_ok=True)


def _finish(
    folder: Path, gathering: _Gathering, identity: Mapping[str, object], windows: Sequence[Sequence[int]]
) -> Statistics:
    """Diagonalise, keep, and return; the manifest is written last, so that a folder with one is whole."""
    moments = {
        layer: LayerMoments.of(total / gathering.count, gathering.count) for layer, total in gathering.sums.items()
    }
    tensors: dict[str, Tensor] = {}
    for layer, found in moments.items():
        tensors[f"values.{layer}"], tensors[f"vectors.{layer}"] = found.values, found.vectors.contiguous()
    ids, mask = pad_right(windows, 0)
    tensors |= {"windows": ids.int(), "lengths": mask.sum(1)}
    write_tensors(folder / "moments.safetensors", tensors, {"key": str(identity["key"]), "count": str(gathering.count)})
    write_json(folder / "manifest.json", {**identity, "count": gathering.count})
    gathering.clear()
    return Statistics(str(identity["base"]), str(identity["key"]), str(identity["source"]), moments, windows)


def _read(folder: Path, identity: Mapping[str, object]) -> Statistics | None:
    """Return kept statistics of this identity, None when there are none or they are damaged."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["key"] != identity["key"]:
            return None
        count, numbers = int(manifest["count"]), [int(layer) for layer in manifest["layers"]]
        found = read_kept(
            folder / "moments.safetensors",
            str(identity["key"]),
            lambda tensors, _: (
                {n: LayerMoments(tensors[f"values.{n}"], tensors[f"vectors.{n}"], count) for n in numbers},
                unpadded(tensors["windows"], tensors["lengths"]),
            ),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if found is None:
        return None
    return Statistics(str(manifest["base"]), str(manifest["key"]), str(manifest["source"]), *found)
