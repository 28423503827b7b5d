"""From configuration files to settings of a job and a schedule."""

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from memedit.config import ConsolidationConfig, load_config
from memedit.config.overrides import with_overrides
from memedit.consolidation.base import ConsolidationSettings
from memedit.consolidation.verdicts import GateLimits, Limits
from memedit.errors import ConfigError
from memedit.registry import unknown_name_message
from memedit.workflows.consolidate.schedule import Schedule
from memedit.workflows.consolidate.settings import JobSettings, ProbeFiles, evaluation_job

_SAME = (
    "method", "check", "chat", "closing", "rounds", "prompt_tokens", "target_tokens", "statistics_text",
    "statistics_tokens", "specificity_probes", "perplexity_tokens", "capability_questions", "batch_size", "publish_on",
    "lora", "lora_rank", "keep", "scope", "wordings", "least_right",
    "collapse_sentences", "shattering",
)  # fmt: skip


def job_settings(config: ConsolidationConfig, overrides: Mapping[str, str] | None = None) -> JobSettings:
    """Return the settings of a job.

    Args:
        config: what a file says.
        overrides: settings by name, as text, that win over it ("rounds", "solver.l2", "limits.perplexity.fail").

    Raises:
        ConfigError: a setting of the solver or a gate is unknown, or a value is wrong.
        UnknownNameError: an unknown name in ``overrides``; lists near matches.
    """
    given: dict[str, Any] = {name: getattr(config, name) for name in _SAME}
    limits = {name: Limits(gate.warn, gate.fail) for name, gate in config.limits.items()}
    settings = JobSettings(
        **given,
        solver=_made(ConsolidationSettings, config.solver, "solver"),
        limits=_made(GateLimits, {**limits, "significance": config.significance}, "limits"),
        probes=ProbeFiles(**config.probes.model_dump()),
    )
    return with_overrides(settings, overrides or {})


def read_evaluation_job(path: Path) -> JobSettings:
    """Return the job of a file for an evaluation: what it does not say about answers is as the metric wants it.

    Raises:
        ConfigError: the file is not of ``kind: consolidation``, or a value is wrong.
    """
    config = load_config(path)
    if not isinstance(config, ConsolidationConfig):
        raise ConfigError(["is not of kind 'consolidation'"], str(path))
    usual = evaluation_job()
    given = {"check": usual.check.value, "chat": usual.chat, "closing": usual.closing}
    update = {name: value for name, value in given.items() if name not in config.model_fields_set}
    return job_settings(config.model_copy(update=update))


def schedule_of(config: ConsolidationConfig, **given: Any) -> Schedule:
    """Return when to consolidate: what is ``given`` (not None) wins over the file.

    Raises:
        ConfigError: no condition is named anywhere, or one is wrong.
    """
    part = config.schedule
    values: dict[str, Any] = {}
    if part is not None:
        age = None if part.max_age_hours is None else timedelta(hours=part.max_age_hours)
        values = {"every_edits": part.every_edits, "max_age": age, "cron": part.cron, "poll_seconds": part.poll_seconds}
    return Schedule(**{**values, **{name: value for name, value in given.items() if value is not None}})


def _made(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    known = [field.name for field in dataclasses.fields(kind)]
    problems = [unknown_name_message(f"setting of {where}", name, known) for name in values if name not in known]
    if problems:
        raise ConfigError(problems, "consolidation")
    # YAML has lists where settings have tuples
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
