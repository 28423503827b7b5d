"""What an export of a version is, and what came of it."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from memedit.consolidation.apply import LoraShape
from memedit.evaluation.metrics.statistics import Estimate

EDITS = "edits.jsonl"
"""File of the edits that an export answers."""


class ExportFormat(StrEnum):
    """What an export is written as."""

    SAFETENSORS = "safetensors"
    """A folder as ``save_pretrained`` leaves it."""
    GGUF = "gguf"
    """One file for llama.cpp and what is built on it."""
    PEFT = "peft"
    """The change alone, as a LoRA for the base model."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. ``held`` is the share of the edits asked that the export answers, None where none was asked."""

    folder: Path
    version: str
    format: ExportFormat
    edits: int
    bytes: int
    lora: LoraShape | None = None
    held: Estimate | None = None
    missed: tuple[str, ...] = ()
