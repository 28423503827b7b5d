"""What can be set about an evaluation, apart from data, model and methods."""

from dataclasses import asdict, dataclass
from typing import Any

from memedit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """Settings that change results; all of them are part of a run's identity.

    Args:
        seed: draws the queries and the resamples.
        batch_size: rows in one batch.
        slack_tokens: tokens an answer may have beyond its canonical answer, so that going on is seen and counted.
        round_tokens: answer limits are rounded up to a multiple of this, so that batches can be shared; long-form
            limits to a multiple of 64.
        unchanged_tokens: answer limit where the base's own answer is wanted (locality, specificity).
        long_tokens: largest answer limit for long-form targets.
        fluency_queries: edit prompts continued freely for fluency and consistency; 0 leaves both out.
        fluency_tokens: tokens of each such continuation.
        probes_per_kind: at most so many probes of a kind from one case, the first ones; None takes all.
        perplexity_tokens: about so many tokens of the perplexity text are scored.
        capability_questions: at most so many questions of each capability file are asked.
        samples: continuations that the row ``leak`` samples of each prompt.
        share_baselines: take rows of ``rag`` and ``oracle`` from the method with the same adapter where the same edits
            fire on them, and from the base where none does, instead of computing them again.
    """

    seed: int = 0
    batch_size: int = 64
    slack_tokens: int = 6
    round_tokens: int = 8
    unchanged_tokens: int = 16
    long_tokens: int = 256
    fluency_queries: int = 16
    fluency_tokens: int = 64
    probes_per_kind: int | None = None
    perplexity_tokens: int = 8192
    capability_questions: int = 100
    share_baselines: bool = True
    samples: int = 20

    def __post_init__(self) -> None:
        at_least = {
            "batch_size": 1, "slack_tokens": 1, "round_tokens": 1, "unchanged_tokens": 1, "long_tokens": 64, "seed": 0,
            "fluency_queries": 0, "fluency_tokens": 8, "perplexity_tokens": 16, "capability_questions": 1,
            "samples": 1,
        }  # fmt: skip
        problems = [
            f"{name} must be at least {least}, got {getattr(self, name)}"
            for name, least in at_least.items()
            if getattr(self, name) < least
        ]
        if self.probes_per_kind is not None and self.probes_per_kind < 1:
            problems.append(f"probes_per_kind must be at least 1 or absent, got {self.probes_per_kind}")
        if problems:
            raise ConfigError(problems, "evaluation settings")

    def as_json(self) -> dict[str, Any]:
        """Return the settings by name."""
        return asdict(self)
