"""The classifier's trained parameters: shipped as one safetensors file with its description in JSON."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from memedit.errors import FingerprintMismatchError, InputError
from memedit.scope.classifier.cross_encoder import MASK, REACH, SCALE, SHARPNESS, WEIGHT
from memedit.scope.classifier.features import FEATURES, TOKEN_FEATURES
from memedit.scope.classifier.head import standardised
from memedit.scope.classifier.networks import network_logits
from memedit.scope.classifier.vocabulary import WordRarity
from memedit.types import FloatArray

WEIGHTS_FILE = "classifier.safetensors"
DESCRIPTION_FILE = "classifier.json"
FORMAT = 2
ALIKE, _STEEPNESS = 0.86, 20.0
"""The cosine that is as good as the threshold, and how steeply probability rises there."""
_CROSS = "cross."
SHIPPED = Path(__file__).parent.parent / "weights"
"""Folder of the parameters that ship with the package."""


@dataclass(frozen=True)
class ClassifierModel:
    """Everything the scores depend on beside the encoder.

    ``projection [d, p]``; ``head`` as in :mod:`memedit.scope.classifier.head`; ``calibration [3]``: slope and offset
    (Platt), and what a logit loses when the edit's subject is known but does not stand in the query; ``threshold``:
    the one chosen on held-out rows; ``word_counts`` over ``documents``; ``direct``: layers of the network
    that tells rewordings from questions one step further, as in :mod:`memedit.scope.classifier.networks` (None: it was
    not fitted); ``cross``: weights of the cross-encoder that looks at close calls again (None: there is none).
    """

    encoder: str
    projection: FloatArray
    head: Mapping[str, FloatArray]
    calibration: FloatArray
    threshold: float
    band: float
    word_counts: Mapping[str, int]
    documents: int
    notes: Mapping[str, Any]
    direct: Mapping[str, FloatArray] | None = None
    cross: Mapping[str, FloatArray] | None = None

    def probability(self, logit: float, *, absent: bool) -> float:
        """Return the calibrated probability of a logit; ``absent``: the edit's subject does not stand in the query."""
        slope, offset, loss = self.calibration.tolist()
        return calibrated(logit - loss * absent, slope, offset)

    def likeness(self, similarity: float) -> float:
        """Return the probability by the cosine alone, for edits whose subject is no name and may be put in other words.

        It is the threshold at :data:`ALIKE`; different names in one question seldom leave its cosine that high.
        """
        return calibrated(similarity - ALIKE, _STEEPNESS, self._threshold_logit)

    @property
    def undecided(self) -> float:
        """Return the logit at which the calibrated probability is the threshold."""
        slope, offset, _ = self.calibration.tolist()
        return (self._threshold_logit - offset) / slope

    @property
    def _threshold_logit(self) -> float:
        return float(np.log(self.threshold / (1 - self.threshold)))

    def directness(self, features: FloatArray) -> float:
        """Return the probability that a query with these features ``[f]`` asks for the edit's own target."""
        if self.direct is None:
            return 0.5
        return calibrated(float(network_logits(self.direct, standardised(self.head, features[None]))[0]), 1.0, 0.0)

    @property
    def rarity(self) -> WordRarity:
        """How telling words are."""
        return WordRarity(self.word_counts, self.documents)

    def fingerprint(self) -> str:
        """Return a SHA-256 over all parameters."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays().items()):
            digest.update(name.encode() + np.ascontiguousarray(array, np.float32).tobytes())
        looks = [MASK, SCALE, SHARPNESS, WEIGHT, REACH] if self.cross else []
        counts = json.dumps([self.encoder, self.documents, ALIKE, _STEEPNESS, *looks, sorted(self.word_counts.items())])
        return hashlib.sha256(digest.digest() + counts.encode()).hexdigest()

    def arrays(self) -> dict[str, FloatArray]:
        """Return all arrays by the names they are stored under."""
        head = {f"head.{name}": array for name, array in self.head.items()}
        direct = {f"direct.{name}": array for name, array in (self.direct or {}).items()}
        cross = {f"{_CROSS}{name}": array for name, array in (self.cross or {}).items()}
        return {"projection": self.projection, "calibration": self.calibration, **direct, **cross, **head}

    def save(self, folder: Path) -> None:
        """Write weights and description into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.ascontiguousarray(array, _stored_as(name)) for name, array in self.arrays().items()}
        save_file(arrays, folder / WEIGHTS_FILE)
        (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors writes for the owner alone
        description = {
            "format": FORMAT,
            "encoder": self.encoder,
            "features": list(FEATURES),
            "token_features": list(TOKEN_FEATURES),
            "threshold": self.threshold,
            "band": self.band,
            "notes": dict(self.notes),
            "documents": self.documents,
            "word_counts": dict(self.word_counts),
        }
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=0, sort_keys=True) + "\n", "utf-8")


def calibrated(logit: float, slope: float, offset: float) -> float:
    """Return the logistic function of ``slope * logit + offset``."""
    return float(1.0 / (1.0 + np.exp(-np.clip(slope * logit + offset, -30.0, 30.0))))


def load_model(folder: Path, encoder_fingerprint: str | None = None) -> ClassifierModel:
    """Load what :meth:`ClassifierModel.save` wrote.

    Raises:
        InputError: the files are absent, damaged, or of another version of the features.
        FingerprintMismatchError: they were trained on another encoder than ``encoder_fingerprint``.
    """
    try:
        described = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
        arrays = load_file(folder / WEIGHTS_FILE)
        trained_on = str(described["encoder"])
        _check_format(described, folder)
        model = ClassifierModel(
            encoder=trained_on,
            projection=arrays.pop("projection"),
            calibration=arrays.pop("calibration"),
            direct=_under("direct.", arrays) or None,
            cross=_under(_CROSS, arrays) or None,
            head=_under("head.", arrays),
            threshold=float(described["threshold"]),
            band=float(described["band"]),
            word_counts=described["word_counts"],
            documents=int(described["documents"]),
            notes=described["notes"],
        )
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"scope classifier in {folder} cannot be read: {type(error).__name__}: {error}") from error
    if encoder_fingerprint is not None and encoder_fingerprint != trained_on:
        raise FingerprintMismatchError(
            f"scope classifier {folder} was trained on encoder {trained_on[:12]}, not {encoder_fingerprint[:12]}: "
            "use that encoder, train a classifier for this one (memedit train scope), or choose scope 'subject'"
        )
    return model


def _under(prefix: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _stored_as(name: str) -> type[np.floating[Any]]:
    """The cross-encoder is ten times as large as the rest, and is kept in half the width."""
    return np.float16 if name.startswith(_CROSS) else np.float32


def ships_for(encoder_fingerprint: str) -> bool:
    """Say whether the shipped parameters were trained on this encoder."""
    try:
        described = json.loads((SHIPPED / DESCRIPTION_FILE).read_text("utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return bool(described.get("encoder") == encoder_fingerprint)


def _check_format(described: Mapping[str, Any], folder: Path) -> None:
    found = (described["format"], described["features"], described["token_features"])
    if found != (FORMAT, list(FEATURES), list(TOKEN_FEATURES)):
        raise InputError(
            f"the scope classifier in {folder} was made for another version of the features; train it again "
            "with memedit train scope"
        )
