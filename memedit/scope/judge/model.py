"""The judge's trained parameters: one safetensors file with its description in JSON."""

import functools
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from memedit.encoders.bert import load_bert
from memedit.encoders.packing import pack_layers
from memedit.errors import FingerprintMismatchError, InputError
from memedit.scope.judge.network import JudgeNetwork, JudgeTokenizer, States
from memedit.types import FloatArray
from memedit.whole_files import write_json, write_whole

WEIGHTS_FILE = "judge.safetensors"
DESCRIPTION_FILE = "judge.json"
FORMAT = 2
SHIPPED = Path(__file__).parent.parent / "weights"
"""Its folders hold the parameters that ship with the package, those of one encoder each."""
_BATCH = 32
_KEPT = 1024
"""So many texts that were read lately are kept, for the cross-encoder: 384 floats a token."""
_KEPT_VECTORS = 16_384
"""So many texts' vectors are kept: with the subject masked, the same question is asked about many subjects."""
_SCALE = ".row_scale"
_LEAST_SCALE = 2.0**-14
"""The least number of full precision in float16: what has been rounded once is not changed by rounding it again."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How logits become probabilities, fitted on families that the network was not trained on.

    ``relation``: slope and offset where the relation encoder alone decides. ``both``: weights of the relation encoder's
    and the cross-encoder's logit, and an offset; ``named_otherwise``: the same with the share of the subject's letters
    that stand in the query, where the subject does not stand there as it is stored. ``unnamed``: weights of the
    cross-encoder's logit and of the cosine of both texts, and an offset, where the subject is no name. ``talk``: those
    of both logits and an offset, where the subject stands in an earlier turn. ``abroad``: weights of the
    cross-encoder's logit and of the cosine, and an offset, where the query is in another script than the subject; None
    where the encoder reads one script. ``clear``: how far from zero the relation encoder's calibrated logit has to be
    for its word to be enough (below, above).
    """

    relation: tuple[float, float] = (1.0, 0.0)
    both: tuple[float, float, float] = (0.5, 0.5, 0.0)
    named_otherwise: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)
    unnamed: tuple[float, float, float] = (0.5, 15.0, -13.0)
    talk: tuple[float, float, float] = (0.4, 0.8, 0.0)
    abroad: tuple[float, float, float] | None = None
    clear: tuple[float, float] = (-4.0, 12.0)


@dataclass(frozen=True)
class JudgeModel:
    """Parameters by name (without the embeddings, which are the packaged encoder's), and what goes with them."""

    encoder: str
    arrays: Mapping[str, FloatArray]
    calibration: Calibration
    threshold: float
    band: float
    notes: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Return a SHA-256 over everything the scores depend on."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(name.encode() + np.ascontiguousarray(array, np.float16).tobytes())
        digest.update(json.dumps([self.encoder, _calibration_dict(self.calibration)], sort_keys=True).encode())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write weights (matrices as int8 with a scale a row, the rest float16) and description, each whole."""
        stored = dict(part for name, array in self.arrays.items() for part in _stored(name, array))
        write_whole(folder / WEIGHTS_FILE, lambda partial: save_file(stored, partial))
        (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors writes for the owner alone
        write_json(
            folder / DESCRIPTION_FILE,
            {
                "format": FORMAT,
                "encoder": self.encoder,
                "calibration": _calibration_dict(self.calibration),
                "threshold": self.threshold,
                "band": self.band,
                "notes": dict(self.notes),
            },
        )


def _calibration(described: Mapping[str, Sequence[float]]) -> Calibration:
    """Read what :func:`_calibration_dict` wrote."""
    values: dict[str, Any] = {name: tuple(float(number) for number in row) for name, row in described.items() if row}
    return Calibration(**values)


def _calibration_dict(calibration: Calibration) -> dict[str, list[float]]:
    values = {name: getattr(calibration, name) for name in Calibration.__slots__}
    return {name: list(value) for name, value in values.items() if value is not None}


def _stored(name: str, array: FloatArray) -> Iterable[tuple[str, np.ndarray]]:
    """Return what a parameter is stored as: int8 of -127..127 times a scale a row, or float16."""
    if array.ndim < 2:
        return [(name, np.asarray(array, np.float16, order="C"))]
    scales = np.maximum(np.abs(array).max(1) / 127, _LEAST_SCALE).astype(np.float16)
    values = np.clip(np.rint(array / scales[:, None].astype(np.float32)), -127, 127)
    return [(name, values.astype(np.int8)), (name + _SCALE, scales)]


def _restored(stored: Mapping[str, np.ndarray]) -> dict[str, FloatArray]:
    """Return the parameters that :func:`_stored` wrote, in float32."""
    return {
        name: array.astype(np.float32) * stored[name + _SCALE][:, None].astype(np.float32)
        if array.dtype == np.int8
        else array.astype(np.float32)
        for name, array in stored.items()
        if not name.endswith(_SCALE)
    }


def rounded(arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return parameters as they will be once stored and loaded again."""
    return _restored(dict(part for name, array in arrays.items() for part in _stored(name, array)))


def load_model(folder: Path, encoder_fingerprint: str | None = None) -> JudgeModel:
    """Load what :meth:`JudgeModel.save` wrote.

    Raises:
        InputError: the files are absent, damaged or of another format.
        FingerprintMismatchError: they were trained on another encoder than ``encoder_fingerprint``.
    """
    try:
        described = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
        if described["format"] != FORMAT:
            raise InputError(f"the judge in {folder} has format {described['format']}, not {FORMAT}; train it again")
        arrays = _restored(load_file(folder / WEIGHTS_FILE))
        model = JudgeModel(
            encoder=str(described["encoder"]),
            arrays=arrays,
            calibration=_calibration(described["calibration"]),
            threshold=float(described["threshold"]),
            band=float(described["band"]),
            notes=described["notes"],
        )
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"scope classifier in {folder} cannot be read: {type(error).__name__}: {error}") from error
    if encoder_fingerprint is not None and encoder_fingerprint != model.encoder:
        raise FingerprintMismatchError(
            f"scope classifier {folder} was trained on encoder {model.encoder[:12]}, not {encoder_fingerprint[:12]}: "
            "use that encoder, train a judge for this one (memedit train scope), or choose scope 'subject'"
        )
    return model


@functools.cache
def shipped_for(encoder_fingerprint: str) -> Path | None:
    """Return the folder of the shipped parameters that were trained on this encoder, if there are any."""
    for description in sorted(SHIPPED.glob(f"*/{DESCRIPTION_FILE}")):
        try:
            described = json.loads(description.read_text("utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        if described.get("encoder") == encoder_fingerprint:
            return description.parent
    return None


class Judge:
    """The network at work. The transformer is loaded at first use. Safe to use from several threads."""

    def __init__(self, folder: Path, model: JudgeModel) -> None:
        self._folder, self._model = folder, model
        self._loaded: tuple[JudgeNetwork, JudgeTokenizer] | None = None
        self._read: OrderedDict[str, Tensor] = OrderedDict()
        self._vectors: OrderedDict[str, FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def scale(self) -> tuple[float, float]:
        """Scale and shift that turn a product of two vectors into the relation encoder's logit."""
        arrays = self._model.arrays
        return float(np.exp(arrays["scale"].item())), float(arrays["shift"].item())

    @property
    def width(self) -> int:
        """Width d of the vectors."""
        return int(self._model.arrays["head.0.weight"].shape[0])

    def is_rare(self, word: str) -> bool:
        """Say whether a folded word is no common one: the tokenizer's vocabulary does not hold it whole."""
        return self._parts()[1].is_rare(word)

    def vectors(self, texts: Sequence[str], *, keep: bool = False) -> FloatArray:
        """Return unit vectors ``[n, d]`` of texts whose subject is masked; a text read lately is not read again.

        ``keep``: what was read is kept for :meth:`pair_logits`, which then reads it no more.
        """
        with self._lock:
            known = {text: self._vectors[text] for text in texts if text in self._vectors}
        absent = [text for text in dict.fromkeys(texts) if text not in known]
        for at in range(0, len(absent), _BATCH):
            known |= self._vectors_of(absent[at : at + _BATCH], keep=keep)
        with self._lock:
            for text in known:
                self._vectors[text] = known[text]
                self._vectors.move_to_end(text)
            while len(self._vectors) > _KEPT_VECTORS:
                self._vectors.popitem(last=False)
        return np.stack([known[text] for text in texts]) if known else np.zeros((0, 0), np.float32)

    def _vectors_of(self, texts: list[str], *, keep: bool) -> dict[str, FloatArray]:
        network, tokenizer = self._parts()
        with torch.inference_mode():
            states, vectors = network.read(tokenizer(texts))
        if keep:
            self._keep(zip(texts, states.each(), strict=True))
        # a row of the batch would hold the whole batch
        return {text: vector.copy() for text, vector in zip(texts, _array(vectors), strict=True)}

    def pair_logits(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """Return two logits a pair of query and edit ``[n, 2]``: it answers; its target as it is answers."""
        found = []
        for at in range(0, len(pairs), _BATCH):
            part = pairs[at : at + _BATCH]
            texts = list(dict.fromkeys(text for pair in part for text in pair))
            number = {text: i for i, text in enumerate(texts)}
            network, _ = self._parts()
            with torch.inference_mode():
                states = States.of(self._states(texts))
                found.append(_array(network.pair_logits(states, [(number[q], number[e]) for q, e in part])))
        return np.concatenate(found) if found else np.zeros((0, 2), np.float32)

    def _states(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the states of texts, those read lately from what was kept."""
        network, tokenizer = self._parts()
        with self._lock:
            known = {text: self._read[text] for text in texts if text in self._read}
        absent = [text for text in texts if text not in known]
        if absent:
            states, _ = network.read(tokenizer(absent), vectors=False)
            known.update(zip(absent, states.each(), strict=True))
        self._keep(known.items())
        return [known[text] for text in texts]

    def _keep(self, read: Iterable[tuple[str, Tensor]]) -> None:
        with self._lock:
            for text, states in read:
                if text not in self._read:
                    self._read[text] = states.clone()  # a part of a batch would hold the whole batch
                self._read.move_to_end(text)
            while len(self._read) > _KEPT:
                self._read.popitem(last=False)

    def _parts(self) -> tuple[JudgeNetwork, JudgeTokenizer]:
        with self._lock:
            if self._loaded is None:
                # the library that holds every model takes seconds to import
                network, tokenizer = _over(load_bert(self._folder) or _transformer(self._folder), self._folder)
                _put(network, self._model.arrays)
                pack_layers(network.eval().requires_grad_(False))
                self._loaded = network, tokenizer
            return self._loaded


def _array(found: Tensor | None) -> FloatArray:
    assert found is not None
    array: FloatArray = found.float().numpy()
    return array


def start_network(folder: Path) -> tuple[JudgeNetwork, JudgeTokenizer]:
    """Return a fresh network over the sentence encoder's transformer in ``folder``, and its tokenizer, for training."""
    return _over(_transformer(folder), folder)


def _over(transformer: Any, folder: Path) -> tuple[JudgeNetwork, JudgeTokenizer]:
    """Return a network over a transformer, and the tokenizer in ``folder``."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return JudgeNetwork(transformer), JudgeTokenizer(tokenizer, transformer.config.max_position_embeddings)


def _transformer(folder: Path) -> Any:
    """Return the library's transformer, whose layers drop out in training."""
    from transformers import AutoModel
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it takes a moment; the caller's terminal is not ours
    try:
        return AutoModel.from_pretrained(folder, local_files_only=True, attention_probs_dropout_prob=0.0).float()
    finally:
        if bars:
            logging.enable_progress_bar()


def trained_arrays(network: JudgeNetwork) -> dict[str, FloatArray]:
    """Return the parameters that training may change."""
    state = network.state_dict()
    return {name: value.float().numpy() for name, value in state.items() if network.is_trained(name)}


def _put(network: JudgeNetwork, arrays: Mapping[str, FloatArray]) -> None:
    """Put trained parameters into a network.

    Raises:
        InputError: they are those of another transformer.
    """
    state = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"the scope's judge does not fit the encoder's transformer: {error}") from error
    absent = [name for name in missing if network.is_trained(name)]
    if absent or unexpected:
        raise InputError(
            f"the scope's judge does not fit the encoder's transformer: {len(absent)} parameters are absent and "
            f"{len(unexpected)} unknown ({', '.join([*absent, *unexpected][:3])}); restore its files or train it anew"
        )
