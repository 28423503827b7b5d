"""Continuous batching: answers join a running batch when they come and leave it when they are done."""

from memedit.runtime.continuous.batch import ContinuousBatch
from memedit.runtime.continuous.jobs import Job, Step
from memedit.runtime.continuous.probe import check_model
from memedit.runtime.continuous.sampling import TokenChoice
from memedit.runtime.continuous.text import TextAssembler
from memedit.runtime.continuous.whole import generate_whole

__all__ = ["ContinuousBatch", "Job", "Step", "TextAssembler", "TokenChoice", "check_model", "generate_whole"]
