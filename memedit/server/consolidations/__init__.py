"""Consolidation from the server: jobs in processes of their own, and the versions they make."""

from memedit.server.consolidations.jobs import Consolidator, JobState
from memedit.server.consolidations.setup import ConsolidationSetup

__all__ = ["ConsolidationSetup", "Consolidator", "JobState"]
