"""The memory's encoder, loaded when it is first needed, and what texts say by themselves: read in one forward pass."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from memedit.encoders.base import Encoder, Progress
from memedit.errors import FieldError, InputError
from memedit.index import Reading, guess_subject, tagger_for
from memedit.memory.normal import composed
from memedit.memory.validation import check_draft
from memedit.types import EditDraft, EditKind, FloatArray


class EncoderSource:
    """Holds an encoder, or the name of one and loads it at first need (a language memory of text alone needs none)."""

    def __init__(self, encoder: Encoder | str) -> None:
        if not isinstance(encoder, str | Encoder):
            raise InputError(f"encoder {encoder!r} is neither a name nor an Encoder")
        self._lock = threading.Lock()
        self._name = encoder if isinstance(encoder, str) else encoder.name
        self._encoder = None if isinstance(encoder, str) else encoder

    @property
    def name(self) -> str:
        """Name it is loaded by."""
        return self._name

    @property
    def loaded(self) -> bool:
        """Whether the encoder is there already."""
        return self._encoder is not None

    def get(self) -> Encoder:
        """Return the encoder, loading it the first time."""
        with self._lock:
            if self._encoder is None:
                from memedit.encoders import load_encoder

                self._encoder = load_encoder(self._name)
            return self._encoder


def check_vectors(vectors: FloatArray, count: int, dimension: int) -> FloatArray:
    """Return caller-given vectors ``[t, d]`` as unit float32 rows.

    Raises:
        InputError: another shape, a value that is not finite, or a zero row.
    """
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.shape != (count, dimension):
        raise InputError(
            f"vectors have shape {array.shape}; one row of width {dimension} is needed for each of the {count} texts "
            "(each prompt, followed by its paraphrases)"
        )
    norms = np.sqrt(np.einsum("ij,ij->i", array, array))
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise InputError(f"vectors[{bad[0]}] is zero or not finite; it cannot be made a unit vector")
    unit: FloatArray = array / norms[:, None] if np.abs(norms - 1).max(initial=0) > 1e-6 else array
    return unit


def join_vectors(blobs: Iterable[bytes]) -> FloatArray:
    """Stack stored vectors into ``[n, d]``."""
    parts = list(blobs)
    return np.frombuffer(b"".join(parts), dtype="<f4").reshape(len(parts), -1).astype(np.float32, copy=False)


_CHUNK = 1024
"""Texts whose token vectors are held at once."""


class TextReader:
    """Checks drafts, finds the subjects they lack, and splits statements into subject and value."""

    def __init__(self, encoder: EncoderSource) -> None:
        self._encoder = encoder

    def drafts(
        self,
        given: Iterable[EditDraft | Mapping[str, Any]],
        say: Callable[[int], str],
        vectors: dict[str, FloatArray],
        progress: Progress | None = None,
    ) -> list[EditDraft]:
        """Check what an author gives and fill in what it lacks.

        A draft of kind "statement" whose target is its whole prompt is split: its target becomes the value in it.

        Args:
            given: drafts, or mappings of their fields.
            say: where a draft stands, for messages.
            vectors: gets the sentence vectors made on the way, by text.
            progress: called with (texts read, texts to read).

        Raises:
            FieldError: a draft cannot be used, or a statement not split; names it, its field and its text.
        """
        found: list[EditDraft] = []
        for i, draft in enumerate(given):
            try:
                found.append(check_draft(draft))
            except FieldError as error:
                raise FieldError(error.field, error.reason, where=say(i)) from error
        asked = [i for i, draft in enumerate(found) if draft.subject is None or _is_whole(draft)]
        for i, reading in self._readings(found, asked, vectors, progress).items():
            found[i] = _completed(found[i], reading, say(i))
        return found

    def with_subject(self, draft: EditDraft) -> EditDraft:
        """Find the subject of a checked draft that names none."""
        return self.drafts([draft], lambda row: "", {})[0]

    def _readings(
        self,
        drafts: Sequence[EditDraft],
        asked: Sequence[int],
        vectors: dict[str, FloatArray],
        progress: Progress | None,
    ) -> dict[int, Reading | str | None]:
        """Readings of the drafts ``asked`` for; a guess at the subject where no tagger fits the encoder."""
        tagger = tagger_for(self._encoder.get().fingerprint) if asked else None
        if tagger is None:
            return {i: guess_subject(composed(drafts[i].prompt), _answer(drafts[i])) for i in asked}
        found: dict[int, Reading | str | None] = dict.fromkeys(asked)
        order = sorted(asked, key=lambda i: len(drafts[i].prompt))
        for at in range(0, len(order), _CHUNK):
            chunk = order[at : at + _CHUNK]
            encodings = self._encoder.get().encode_tokens([composed(drafts[i].prompt) for i in chunk])
            for i, encoding in zip(chunk, encodings, strict=True):
                vectors[encoding.text] = encoding.vector
                found[i] = tagger.read(encoding, _answer(drafts[i]))
            if progress is not None:
                progress(at + len(chunk), len(order))
        return found


def _is_whole(draft: EditDraft) -> bool:
    return draft.kind is EditKind.STATEMENT and draft.target == draft.prompt


def _answer(draft: EditDraft) -> str | None:
    """The target, unless it is the whole prompt."""
    return None if draft.target == draft.prompt else composed(draft.target)


def _completed(draft: EditDraft, reading: Reading | str | None, where: str) -> EditDraft:
    """The draft with what was read. Without a tagger a statement stays its own target."""
    found = reading.subject if isinstance(reading, Reading) else reading
    subject = found if draft.subject is None else draft.subject
    if not _is_whole(draft) or not isinstance(reading, Reading):
        return replace(draft, subject=subject)
    if reading.value is None:
        what = f"{draft.prompt[:200]!r} cannot be split into a subject and what is said of it"
        raise FieldError("prompt", f"{what}; write a whole sentence, or a prompt and a target", where=where)
    return replace(draft, subject=subject, target=reading.value)
