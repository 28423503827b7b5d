"""Train the judge: the same inventory, data files and seed give the same weights."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from memedit.encoders import load_encoder
from memedit.encoders.base import Encoder
from memedit.errors import DatasetError, InputError
from memedit.scope.judge.model import Calibration, Judge, JudgeModel, load_model, rounded, start_network, trained_arrays
from memedit.training.scope.calibration import calibrate_judge
from memedit.training.scope.fitting import JudgeProgress, JudgeSettings, fit_judge, start_from
from memedit.training.scope.inventory import FOLDER, Family, read_families
from memedit.training.scope.rows import read_rows

THRESHOLD, BAND = 0.5, 0.15
_NOISE = 4_000
_ABROAD = "languages"
"""Begins the names of the files with other languages than English."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def train_judge(
    data_files: Sequence[Path | str],
    out: Path | str,
    *,
    leave_out: Sequence[str] = (),
    encoder: Encoder | str = "minilm",
    background: Sequence[Path | str] = (),
    start: Path | str | None = None,
    calibration: Path | str | None = None,
    settings: JudgeSettings | None = None,
    progress: Callable[[JudgeProgress], None] | None = None,
) -> dict[str, Any]:
    """Fit and calibrate a judge; write its weights into ``out`` and checkpoints into ``out / "work"``.

    A killed run goes on from its last checkpoint. The probabilities are set on the inventory files that are left out;
    a judge that is trained on all files takes the calibration of one that was not.

    Args:
        data_files: data files of published forms, whose training rows come along.
        out: folder for ``judge.safetensors`` and ``judge.json``.
        leave_out: what is not trained on: names of inventory files (without ``.jsonl``), of one family of a file
            ("FILE/FAMILY"), codes of languages.
        encoder: the sentence encoder that it stands on, or its name.
        background: plain text files; their sentences stand in front of questions.
        start: folder of a judge whose weights it begins with; default: the encoder's own.
        calibration: folder of a judge whose calibration is kept.
        settings: sizes and rates.
        progress: called after every step.

    Raises:
        DatasetError: a data file cannot be read.
        InputError: an unknown inventory file, nothing to calibrate on, or an encoder without files.
    """
    out, settings = Path(out), settings or JudgeSettings()
    used = load_encoder(encoder) if isinstance(encoder, str) else encoder
    folder = getattr(used, "folder", None)
    if folder is None:
        raise InputError("the judge is trained from an encoder's transformer; this encoder has no files of its own")
    families, kept_back = _families(leave_out, abroad=settings.abroad > 0)
    if not kept_back and calibration is None:
        raise InputError(
            "leave inventory files out (--leave-out) to calibrate on, or name a judge whose calibration holds"
        )
    torch.manual_seed(settings.seed)  # the heads begin with random weights
    network, tokenizer = start_network(folder)
    if start is not None:
        start_from(network, load_model(Path(start), used.fingerprint).arrays)
    rows = read_rows([Path(path) for path in data_files])
    noise = [sentence for path in background for sentence in _sentences(Path(path))][:_NOISE]
    fit_judge(
        network, tokenizer, families, rows, noise=noise, settings=settings, folder=out / "work", progress=progress
    )
    notes = {
        "settings": asdict(settings),
        "families": len(families),
        "left_out": sorted(leave_out),
        "rows": len(rows),
        "data": sorted(Path(path).name for path in data_files),
    }
    model = JudgeModel(used.fingerprint, rounded(trained_arrays(network)), Calibration(), THRESHOLD, BAND, notes)
    found = (
        load_model(Path(calibration)).calibration
        if calibration is not None
        else calibrate_judge(Judge(folder, model), kept_back, rows=rows, encoder=used, seed=settings.seed + 1)
    )
    JudgeModel(model.encoder, model.arrays, found, THRESHOLD, BAND, notes).save(out)
    return {"out": str(out), **notes, "calibration": asdict(found)}


def _families(leave_out: Sequence[str], *, abroad: bool) -> tuple[list[Family], list[Family]]:
    """Return the families to train on and those left out.

    Args:
        leave_out: names of files, of families of one ("FILE/FAMILY"), and codes of languages.
        abroad: whether the files with other languages than English are read.
    """
    found = {
        (path.stem, family.name.partition(" (")[0]): family
        for path in sorted(FOLDER.glob("*.jsonl"))
        if abroad or not path.stem.startswith(_ABROAD)
        for family in map(_named_by(path.stem), read_families([path]))
    }
    languages = {code for family in found.values() for relation in family.relations for code in relation.abroad}
    names = {name for file, family in found for name in (file, f"{file}/{family}")} | languages
    unknown = [name for name in leave_out if name not in names]
    if unknown:
        files = ", ".join(sorted({file for file, _ in found}))
        raise InputError(
            f"no inventory file, family or language is named {', '.join(unknown)}; there are the files {files} and the "
            f"languages {', '.join(sorted(languages)) or 'English'}"
        )
    kept: list[Family] = []
    back: list[Family] = []
    for (file, name), family in found.items():
        out = file in leave_out or f"{file}/{name}" in leave_out
        (back if out else kept).append(family if out else family.without(leave_out))
    return kept, back


def _named_by(file: str) -> Callable[[Family], Family]:
    """Give the families of files with other languages names of their own: they are kinds that other files have too."""
    return lambda family: replace(family, name=f"{family.name} ({file})") if family.abroad else family


def _sentences(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot be read: {error}", path=str(path)) from error
    return [s.strip() for s in _SENTENCE_END.split(text) if 20 < len(s) < 140 and "=" not in s and "@" not in s]
