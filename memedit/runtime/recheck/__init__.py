"""Re-check while generating: text written so far is looked up, and an edit fires from where it comes up."""

from memedit.runtime.recheck.policy import Recheck, check_recheck
from memedit.runtime.recheck.watching import Finding, Watch

__all__ = ["Finding", "Recheck", "Watch", "check_recheck"]
