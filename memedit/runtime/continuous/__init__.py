"""Continuous batching: answers join a running batch when they come and leave it when they are done."""

from memedit.runtime.continuous.batch import ContinuousBatch
from memedit.runtime.continuous.jobs import Job, Step
from memedit.runtime.continuous.sampling import TokenChoice

__all__ = ["ContinuousBatch", "Job", "Step", "TokenChoice"]
