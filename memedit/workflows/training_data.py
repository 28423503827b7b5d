"""Facts from data files for training, and the frozen model's copy in the dtype it is trained beside."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from memedit.errors import DatasetError
from memedit.models.loading import resolve_dtype
from memedit.workflows.reader_facts import Fact, read_facts
from memedit.workflows.splits import is_training_row


def load_facts(halves: Sequence[Path | str], *, whole: Sequence[Path | str] = ()) -> list[Fact]:
    """Read record files: the training half of ``halves``, every row of ``whole``.

    A path may end in ``:N``: only the first N rows of the file are read.

    Raises:
        DatasetError: a file does not exist or cannot be read, or there is nothing to train on.
    """
    facts = [fact for item in halves for fact in _rows(item) if is_training_row(fact.prompt)]
    facts += [fact for item in whole for fact in _rows(item)]
    if not facts:
        names = ", ".join(str(item) for item in [*halves, *whole]) or "(no files)"
        raise DatasetError("no rows to train on", path=names)
    return facts


def _rows(item: Path | str) -> list[Fact]:
    head, _, count = str(item).rpartition(":")
    path, limit = (Path(head), int(count)) if head and count.isdigit() else (Path(item), None)
    if not path.is_file():
        raise DatasetError("no such file; give record files (.jsonl)", path=str(path))
    return read_facts(path)[:limit]


def training_copy(model: Any, dtype: str) -> Any:
    """Return ``model`` frozen, in ``dtype``: itself where nothing changes, else a copy.

    "auto" is bfloat16 where the processor computes in it, else the model's own dtype.
    """
    wanted = _automatic(model) if dtype == "auto" else resolve_dtype(dtype)
    copied = model if wanted == model.dtype else copy.deepcopy(model).to(wanted)
    return copied.eval().requires_grad_(False)


def _automatic(model: Any) -> torch.dtype:
    device = next(model.parameters()).device
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        able = device.type == "cpu" and _cpu_computes_bfloat16()
    return torch.bfloat16 if able else model.dtype


def _cpu_computes_bfloat16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check is not None else False
