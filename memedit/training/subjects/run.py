"""Train the tagger of subjects and values: the same files and seed give the same weights."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from memedit import whole_files
from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.evaluation.results import write_json
from memedit.index.subject_tagging import DESCRIPTION_FILE, WEIGHTS_FILE, SubjectTagger
from memedit.training.scope.inventory import FOLDER
from memedit.training.scope.rows import read_rows
from memedit.training.subjects.examples import (
    ExampleMaker,
    LabelledText,
    held_out_prompts,
    plain_texts,
    read_sources,
    row_texts,
)
from memedit.training.subjects.fitting import (
    EncodedExample,
    Progress,
    TaggerSettings,
    encode_examples,
    fit_tagger,
    score_tagger,
)
from memedit.types import FloatMatrix

REPORT_FILE = "report.json"
_ROW_TEXTS = 3500
_REPORTED = 1
"""Wordings of each relation in the report."""


def train_subjects(
    data_files: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    encoder: Encoder | str = "minilm",
    leave_out: Sequence[str] = (),
    work: Path | None = None,
    settings: TaggerSettings | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit the tagger to the inventory of relations and to the training rows of data files; write weights and report.

    Encoded texts are kept in ``work`` by source: a killed run goes on from there, and a run that leaves something out
    shares them with one that does not.

    Args:
        data_files: files with the published fields ``prompt`` (or ``src``) and ``subject``.
        out: folder of the weights, their description and ``report.json``.
        seed: of texts, initial weights and order.
        encoder: the frozen encoder, or its name.
        leave_out: inventory files (by stem) and languages (by code) to report on instead of training on them.
        work: folder of encoded texts; default: ``out / "work"``.
        settings: size and fit of the network.
        progress: called with (stage, done, total).

    Returns:
        The report: exact and overlapping spans of what was left out and of held-out rows, in percent.

    Raises:
        DatasetError: a file cannot be read.
        InputError: what is to be left out is not there, or nothing would be left.
    """
    used = load_encoder(encoder) if isinstance(encoder, str) else encoder
    settings = settings or TaggerSettings()
    sources = read_sources(sorted(FOLDER.glob("*.jsonl")))
    unknown = set(leave_out) - {source.name for source in sources}
    if unknown:
        names = ", ".join(source.name for source in sources)
        raise InputError(f"cannot leave out {', '.join(sorted(unknown))}; the inventory has {names}")
    trained = [source for source in sources if source.name not in leave_out]
    if not trained:
        raise InputError(f"all {len(sources)} sources are left out; nothing is left to train on")
    rows = read_rows(data_files) if data_files else []
    groups = [row_texts(rows, _ROW_TEXTS, seed)] if rows else []
    groups += [ExampleMaker(source, rows, seed).all() for source in trained]
    folder = out / "work" if work is None else work
    examples: list[EncodedExample] = []
    for number, group in enumerate(groups, 1):
        examples += _encoded(group, used, folder)
        if progress is not None:
            progress("encoding", number, len(groups))
    weights = fit_tagger(examples, settings, seed=seed, progress=progress)
    _write(weights, out, used, {"seed": seed, "left_out": sorted(leave_out), "settings": asdict(settings)})
    asked = [text for path in data_files for text in held_out_prompts(path)]
    rng = random.Random(seed)
    asked += [t for source in sources if source.name in leave_out for t in plain_texts(source, _REPORTED, rng)]
    report = {"examples": len(examples), "rows": score_tagger(SubjectTagger(weights), used, asked)}
    write_json(out / REPORT_FILE, report)
    return report


def _encoded(texts: Sequence[LabelledText], encoder: Encoder, folder: Path) -> list[EncodedExample]:
    """The encoded texts, from ``folder`` when they are there."""
    digest = hashlib.sha256(encoder.fingerprint.encode())
    for text in texts:
        digest.update(repr((text.text, text.subjects, text.values)).encode())
    path = folder / f"{digest.hexdigest()[:24]}.npz"
    if path.is_file():
        with np.load(path) as kept:
            ends = np.cumsum(kept["lengths"])[:-1]
            parts = zip(np.split(kept["inputs"], ends), np.split(kept["labels"], ends), strict=True)
            return [EncodedExample(inputs, labels) for inputs, labels in parts]
    examples = encode_examples(texts, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part.npz")
    np.savez(
        fresh,
        inputs=np.concatenate([example.inputs for example in examples]),
        labels=np.concatenate([example.labels for example in examples]),
        lengths=np.array([len(example.labels) for example in examples]),
    )
    fresh.replace(path)
    return examples


def _write(weights: dict[str, FloatMatrix], out: Path, encoder: Encoder, how: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    whole_files.write_whole(out / WEIGHTS_FILE, lambda partial: save_file(weights, partial))
    parameters = int(sum(array.size for array in weights.values()))
    description = {"encoder": encoder.fingerprint, "encoder_name": encoder.name, "parameters": parameters, **how}
    whole_files.write_json(out / DESCRIPTION_FILE, description)
