"""A version of consolidated edits as a model that needs no memedit: safetensors, one GGUF file, or a PEFT adapter."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from memedit.consolidation.apply import LoraShape, to_peft_lora
from memedit.consolidation.delta_files import load_delta
from memedit.consolidation.records import BASE, DELTA, RECORD, VersionRecord
from memedit.consolidation.versions import FILES, VersionStore
from memedit.errors import InputError, ModelError
from memedit.evaluation.metrics.statistics import Estimate, rate
from memedit.evaluation.protocols import first_line, is_contained, is_exact, is_prefix
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.types import Edit
from memedit.whole_files import write_text
from memedit.workflows.consolidate.card import export_card
from memedit.workflows.consolidate.exported import EDITS, Exported, ExportFormat
from memedit.workflows.consolidate.settings import Check

_OURS = frozenset({RECORD, DELTA, BASE, FILES, "report.html", "README.md", "lora"})
"""What a version's folder holds beside the checkpoint."""
_JUDGES = {Check.PREFIX: is_prefix, Check.EXACT: is_exact, Check.CONTAINS: is_contained}
_SLACK_TOKENS = 8


def export_version(
    memory: EditMemory,
    store: VersionStore,
    name: str,
    out: Path,
    *,
    format: ExportFormat = ExportFormat.SAFETENSORS,
    half: bool = False,
    rank: int | None = None,
    ask: int = 100,
    base: Callable[[str], tuple[LoadedModel, str]],
) -> Exported:
    """Write a version into an empty folder, with a model card, and ask its edits of what was written.

    The questions go to another process, which loads the export with transformers alone. Only the edits that the
    version's weights answer are asked; the memory answers the others, and the export lacks them.

    Args:
        memory: where the edits' texts are; of one that was changed since, the text is not given away.
        store: the versions.
        name: a version or alias.
        out: a folder that is empty or not there.
        format: what to write.
        half: GGUF's matrices in float16.
        rank: of the PEFT adapter, None for the exact change.
        ask: edits asked at most, evenly spread; 0 asks none.
        base: loads a model by the name that the version has for its base, and says where its checkpoint lies.

    Raises:
        ModelNotFoundError: there is no such version.
        StoreCorruptError: the version's files have changed.
        InputError: the folder is not empty, or ``rank`` is below 1.
        UnsupportedModelError: the model cannot be written as GGUF; nothing is left behind.
        ModelError: transformers cannot load what was written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there and not empty; name another folder")
    if rank is not None and rank < 1:
        raise InputError(f"rank={rank} is below 1")
    record = store.record(name)
    folder = store.checked(name, [path.name for path in store.folder(name).iterdir() if path.is_file()
                                  and path.name != FILES])  # fmt: skip
    edits = _edits(memory, record)
    out.mkdir(parents=True, exist_ok=True)
    try:
        shape, where = _write(folder, record, out, format, half=half, rank=rank, base=base)
        _write_edits(out / EDITS, edits)
        count = min(ask, len(edits))
        asked = [edits[i * len(edits) // count] for i in range(count)]
        held, missed = _ask(where, asked, record)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    found = Exported(out, record.name, format, len(edits), size, shape, held, missed)
    write_text(out / "README.md", export_card(record, found, edits))
    return found


def _edits(memory: EditMemory, record: VersionRecord) -> list[Edit]:
    """Return the edits that the weights answer, as they were consolidated, by id."""
    served = {edit.id: edit.content_hash for edit in record.served}
    known = memory.known(sorted(served), namespace=record.namespace)
    return sorted((edit for edit in known if edit.content_hash == served[edit.id]), key=lambda edit: edit.id)


def _write(
    folder: Path,
    record: VersionRecord,
    out: Path,
    format: ExportFormat,
    *,
    half: bool,
    rank: int | None,
    base: Callable[[str], tuple[LoadedModel, str]],
) -> tuple[LoraShape | None, dict[str, Any]]:
    """Write the weights; return a LoRA's shape, and what :mod:`plain_asking` needs to load what was written."""
    where: dict[str, Any] = {"model": str(out), "gguf_file": None, "adapter": None}
    if format is ExportFormat.SAFETENSORS:
        for path in folder.iterdir():
            if path.name not in _OURS:
                shutil.copy2(path, out / path.name)
        return None, where
    if format is ExportFormat.GGUF:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from memedit.models.gguf_write import write_gguf

        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        label = f"{Path(record.base_name).name}-{record.name}"
        write_gguf(model, tokenizer, out / f"{label}.gguf", half=half, name=label)
        return None, {**where, "gguf_file": f"{label}.gguf"}
    loaded, checkpoint = base(record.base_name)
    delta = load_delta(folder / DELTA)
    dense = [min(term.shape) for term in delta.terms.values() if term.dense is not None]
    shape = to_peft_lora(loaded, delta, out, rank=rank if rank is not None or not dense else max(dense))
    return shape, {**where, "model": checkpoint, "adapter": str(out)}


def _write_edits(path: Path, edits: Sequence[Edit]) -> None:
    rows = ({"id": e.id, "prompt": e.prompt, "target": e.target, "subject": e.subject} for e in edits)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _ask(
    where: dict[str, Any], edits: Sequence[Edit], record: VersionRecord
) -> tuple[Estimate | None, tuple[str, ...]]:
    """Ask edits of what was written, in a process without memedit; return the share it answers, and the other ids."""
    if not edits:
        return None, ()
    judge = _JUDGES[Check(record.settings.get("check", Check.PREFIX))]
    rows = [{"prompt": edit.prompt, "tokens": len(edit.target.encode()) // 2 + _SLACK_TOKENS} for edit in edits]
    program = Path(__file__).with_name("plain_asking.py")
    words = json.dumps({**where, "rows": rows})
    done = subprocess.run(
        [sys.executable, "-I", str(program)], input=words, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ModelError(f"transformers cannot load what was written: {done.stderr.strip()[-1500:]}")
    answers = json.loads(done.stdout.splitlines()[-1])
    right = [judge(first_line(text), [edit.target]) for edit, text in zip(edits, answers, strict=True)]
    return rate(right), tuple(edit.id for edit, held in zip(edits, right, strict=True) if not held)
