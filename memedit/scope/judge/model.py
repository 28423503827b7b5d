"""The judge's trained parameters: one safetensors file with its description in JSON."""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from memedit.encoders.packing import pack_linears
from memedit.errors import FingerprintMismatchError, InputError
from memedit.scope.judge.network import JudgeNetwork, JudgeTokenizer
from memedit.types import FloatArray
from memedit.whole_files import write_json, write_whole

WEIGHTS_FILE = "judge.safetensors"
DESCRIPTION_FILE = "judge.json"
FORMAT = 1
SHIPPED = Path(__file__).parent.parent / "weights"
"""Folder of the parameters that ship with the package."""
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Calibration:
    """How logits become probabilities, fitted on families that the network was not trained on.

    ``relation``: slope and offset where the relation encoder alone decides. ``both``: weights of the relation encoder's
    and the cross-encoder's logit, and an offset; ``named_otherwise``: the same with the share of the subject's letters
    that stand in the query, where the subject does not stand there as it is stored. ``unnamed``: weights of the
    cross-encoder's logit and of the cosine of both texts, and an offset, where the subject is no name. ``talk``: those
    of both logits and an offset, where the subject stands in an earlier turn. ``clear``: how far from zero the relation
    encoder's calibrated logit has to be for its word to be enough (below, above).
    """

    relation: tuple[float, float] = (1.0, 0.0)
    both: tuple[float, float, float] = (0.5, 0.5, 0.0)
    named_otherwise: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)
    unnamed: tuple[float, float, float] = (0.5, 15.0, -13.0)
    talk: tuple[float, float, float] = (0.4, 0.8, 0.0)
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
        """Write weights (float16) and description into ``folder``, each whole."""
        stored = {name: np.asarray(array, np.float16, order="C") for name, array in self.arrays.items()}
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
    values: dict[str, Any] = {name: tuple(float(number) for number in row) for name, row in described.items()}
    return Calibration(**values)


def _calibration_dict(calibration: Calibration) -> dict[str, list[float]]:
    return {name: list(getattr(calibration, name)) for name in Calibration.__slots__}


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
        arrays = {name: array.astype(np.float32) for name, array in load_file(folder / WEIGHTS_FILE).items()}
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


def ships_for(encoder_fingerprint: str) -> bool:
    """Say whether the shipped parameters were trained on this encoder."""
    try:
        described = json.loads((SHIPPED / DESCRIPTION_FILE).read_text("utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return bool(described.get("encoder") == encoder_fingerprint)


class Judge:
    """The network at work. The transformer is loaded at first use. Safe to use from several threads."""

    def __init__(self, folder: Path, model: JudgeModel) -> None:
        self._folder, self._model = folder, model
        self._loaded: tuple[JudgeNetwork, JudgeTokenizer] | None = None
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

    def vectors(self, texts: Sequence[str]) -> FloatArray:
        """Return unit vectors ``[n, d]`` of texts whose subject is masked."""
        network, tokenizer = self._parts()
        found = self._run(texts, lambda part: network.vectors(tokenizer.texts(part)))
        return found if len(texts) else np.zeros((0, 0), np.float32)

    def pair_logits(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """Return two logits a pair of query and edit ``[n, 2]``: it answers; its target as it is answers."""
        network, tokenizer = self._parts()
        found = self._run(pairs, lambda part: network.pair_logits(tokenizer.pairs(part)))
        return found if len(pairs) else np.zeros((0, 2), np.float32)

    @staticmethod
    def _run(rows: Sequence[Any], run: Any) -> FloatArray:
        """Run batches of like length; return the results in the order of ``rows``."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]) if isinstance(rows[i], str) else len(rows[i][0]))
        out: dict[int, FloatArray] = {}
        with torch.inference_mode():
            for at in range(0, len(order), _BATCH):
                chosen = order[at : at + _BATCH]
                out.update(zip(chosen, run([rows[i] for i in chosen]).float().numpy(), strict=True))
        return np.stack([out[i] for i in range(len(rows))]) if rows else np.zeros(0, np.float32)

    def _parts(self) -> tuple[JudgeNetwork, JudgeTokenizer]:
        with self._lock:
            if self._loaded is None:
                network, tokenizer = start_network(self._folder)
                _put(network, self._model.arrays)
                pack_linears(network)
                self._loaded = network.eval().requires_grad_(False), tokenizer
            return self._loaded


def start_network(folder: Path) -> tuple[JudgeNetwork, JudgeTokenizer]:
    """Return a fresh network over the sentence encoder's transformer in ``folder``, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it takes a moment; the caller's terminal is not ours
    try:
        transformer = AutoModel.from_pretrained(folder, local_files_only=True).float()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return JudgeNetwork(transformer), JudgeTokenizer(tokenizer, transformer.config.max_position_embeddings)
    finally:
        if bars:
            logging.enable_progress_bar()


def trained_arrays(network: JudgeNetwork) -> dict[str, FloatArray]:
    """Return the parameters that training may change: all but the embeddings and the pooler."""
    state = network.state_dict()
    return {name: value.float().numpy() for name, value in state.items() if _is_trained(name)}


def _is_trained(name: str) -> bool:
    return not name.startswith(("transformer.embeddings.", "transformer.pooler."))


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
    absent = [name for name in missing if _is_trained(name)]
    if absent or unexpected:
        raise InputError(
            f"the scope's judge does not fit the encoder's transformer: {len(absent)} parameters are absent and "
            f"{len(unexpected)} unknown ({', '.join([*absent, *unexpected][:3])}); restore its files or train it anew"
        )
