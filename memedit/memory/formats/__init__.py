"""Edits in files: our own JSONL, and the forms in which others publish or keep them."""

from memedit.memory.formats.exporting import export_edits, write_edits
from memedit.memory.formats.importing import FileDrafts, read_drafts
from memedit.memory.formats.registry import FORMATS

__all__ = ["FORMATS", "FileDrafts", "export_edits", "read_drafts", "write_edits"]
