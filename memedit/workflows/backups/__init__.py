"""Backups: a memory with all that belongs to it in one file, and a memory made of such a file."""

from memedit.workflows.backups.making import BackupReport, back_up
from memedit.workflows.backups.restoring import RestoreReport, inspect_backup, restore

__all__ = ["BackupReport", "RestoreReport", "back_up", "inspect_backup", "restore"]
