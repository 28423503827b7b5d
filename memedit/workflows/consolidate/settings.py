"""What can be set about a consolidation job."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.records import WeightScope
from memedit.consolidation.verdicts import GateLimits, Verdict
from memedit.errors import ConfigError

_OF_THE_SOLUTION = (
    "method", "chat", "closing", "rounds", "prompt_tokens", "target_tokens", "statistics_tokens", "wordings",
    "least_right",
)  # fmt: skip
_SINCE = {"scope": WeightScope.ALWAYS.value, "wordings": 0, "least_right": 1.0}
"""What jobs were like that were recorded before there was a choice."""


class Check(StrEnum):
    """When an edit passes its own check: how the candidate's greedy answer must look."""

    PREFIX = "prefix"
    """It begins with the words of the target."""
    EXACT = "exact"
    """Its first line is the target and nothing else."""
    CONTAINS = "contains"
    """The words of the target stand in its first line."""


@dataclass(frozen=True, slots=True)
class ProbeFiles:
    """What the gates measure with; what is not given comes with memedit or from the model itself.

    Args:
        specificity: JSONL with ``prompt`` fields, or a data file of a published form, whose locality prompts are taken.
        perplexity: plain text; absent, the base's own samples.
        capability: a capability file or a folder of them (see ``memedit eval``).
        canaries: JSONL with ``prompt`` and one of ``contains``, ``absent`` (text that must or must not stand in the
            answer) or ``unchanged: true``.
    """

    specificity: Path | None = None
    perplexity: Path | None = None
    capability: Path | None = None
    canaries: Path | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else Path(given))


@dataclass(frozen=True, slots=True)
class JobSettings:
    """How a job is done.

    Args:
        method: a solver's name.
        solver: settings of targets and solve.
        limits: of the gates.
        probes: what the gates measure with.
        check: when an edit passes its own check.
        chat: also ask each edit's prompt as a chat turn, where the model has a chat template. Edits whose target does
            not stand in that answer go on being served from the memory in chats; so do all with this left out.
        closing: also teach the answer to end, with a newline behind the target: many more edits pass an exact check,
            but a text that begins with the prompt no longer goes on in the same line.
        scope: which rows of a batch meet the version's weights in memedit. Loaded by anything else it is a plain model.
        wordings: an edit whose prompt the weights answer is asked in so many other wordings, generated ones. Those that
            are never asked are left to the weights where these were answered rightly, else to the memory; with 0 all
            are the memory's.
        least_right: share of an edit's wordings that must be answered rightly for that.
        rounds: solves at most: edits that fail their check are left out of the next one. In the last round they stay
            in the weights, but the memory goes on answering for them.
        prompt_tokens: edits with longer prompts stay in the memory: what keys and targets cost grows with them.
        target_tokens: edits with longer targets stay in the memory.
        statistics_text: plain text for the key statistics; None lets the model write its own.
        statistics_tokens: so many tokens of it.
        specificity_probes: at most so many prompts of the specificity gate.
        perplexity_tokens: tokens scored by the perplexity gate.
        collapse_sentences: sentences of the collapse gate; 0 leaves it out, 1,000 is sure of a single broken one.
        shattering: compare distances between entities with those under random changes of the same size.
        capability_questions: at most so many questions of each capability file.
        batch_size: rows in one batch of checks and gates.
        publish_on: verdicts with which a candidate is made champion.
        lora: also write the change as a PEFT LoRA, where its rank is at most ``lora_rank``.
        lora_rank: see ``lora``.
        keep: versions kept besides those with an alias.
    """

    method: str = "alphaedit"
    solver: ConsolidationSettings = field(default_factory=ConsolidationSettings)
    limits: GateLimits = field(default_factory=GateLimits)
    probes: ProbeFiles = field(default_factory=ProbeFiles)
    check: Check = Check.PREFIX
    chat: bool = True
    closing: bool = False
    scope: WeightScope = WeightScope.GATED
    wordings: int = 8
    least_right: float = 1.0
    rounds: int = 2
    prompt_tokens: int = 256
    target_tokens: int = 32
    statistics_text: Path | None = None
    statistics_tokens: int = 100_000
    specificity_probes: int = 200
    perplexity_tokens: int = 2048
    collapse_sentences: int = 50
    shattering: bool = True
    capability_questions: int = 100
    batch_size: int = 32
    publish_on: tuple[Verdict, ...] = (Verdict.PASS, Verdict.WARN)
    lora: bool = False
    lora_rank: int = 64
    keep: int = 5

    def __post_init__(self) -> None:
        text = self.statistics_text
        object.__setattr__(self, "check", Check(self.check))
        object.__setattr__(self, "solver", self.solver.for_method(self.method))
        object.__setattr__(self, "scope", WeightScope(self.scope))
        object.__setattr__(self, "publish_on", tuple(map(Verdict, self.publish_on)))
        object.__setattr__(self, "statistics_text", None if text is None else Path(text))
        at_least = {
            "rounds": 1, "wordings": 0, "prompt_tokens": 1, "target_tokens": 1, "statistics_tokens": 1,
            "specificity_probes": 1, "perplexity_tokens": 16, "capability_questions": 1, "batch_size": 1,
            "lora_rank": 1, "keep": 1, "collapse_sentences": 0,
        }  # fmt: skip
        problems = [
            f"{name} must be at least {least}, got {getattr(self, name)}"
            for name, least in at_least.items()
            if getattr(self, name) < least
        ]
        if not 0 < self.least_right <= 1:
            problems.append(f"least_right must lie above 0 and at most at 1, got {self.least_right}")
        if Verdict.FAIL in self.publish_on:
            problems.append("publish_on: a candidate that FAILs is never published")
        if problems:
            raise ConfigError(problems, "consolidation job")


def settings_json(settings: JobSettings) -> dict[str, Any]:
    """Return what a solution depends on, as plain values; limits and probes are not among it."""
    text = settings.statistics_text
    return {
        **{name: getattr(settings, name) for name in _OF_THE_SOLUTION},
        "check": settings.check.value,
        "scope": settings.scope.value,
        "statistics_text": None if text is None else str(text),
        "solver": asdict(settings.solver),
    }


def settings_like(fields: Mapping[str, Any]) -> JobSettings:
    """Return settings that solve as those did that :func:`settings_json` was given.

    Raises:
        ConfigError: they are of another version of memedit.
    """
    fields = {**_SINCE, **fields}
    try:
        solver: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields["solver"].items()}
        same: dict[str, Any] = {name: fields[name] for name in (*_OF_THE_SOLUTION, "check", "scope", "statistics_text")}
        return JobSettings(**same, solver=ConsolidationSettings(**solver))
    except (KeyError, TypeError) as error:
        raise ConfigError([f"cannot be used by this memedit: {error}; name settings anew"], "recorded job") from error


def evaluation_job() -> JobSettings:
    """Return the job of an evaluation, which asks plain prompts and counts exact answers.

    An edit is left to the weights when they answer it just so, and they are taught where the answer ends.
    """
    return JobSettings(check=Check.EXACT, chat=False, closing=True)
