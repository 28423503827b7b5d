"""What a job would do, before it does it: edits, time, memory, disk."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from memedit.consolidation.base import ConsolidationSettings, artefact_fingerprint
from memedit.consolidation.polish import STEP_TOKENS
from memedit.consolidation.sensitivity import sensitivity_kept
from memedit.consolidation.site import EditSite
from memedit.consolidation.statistics import statistics_identity
from memedit.memory import EditMemory
from memedit.models import LoadedModel, cache_home
from memedit.types import Edit
from memedit.workflows.consolidate.checking import questions_of
from memedit.workflows.consolidate.selecting import Selection
from memedit.workflows.consolidate.settings import JobSettings

ARTEFACTS = "consolidation"
"""Kind under which keys and targets of edits lie in the memory; see :func:`artefact_kind`."""
_SHORT_ROW, _CHARACTERS = 8.0, 4.0
"""Tokens of a row at least, and characters of one token, about."""
_BACKWARD = 3.0
"""Forward and backward pass together, in forward passes."""
_WRITTEN = 3.0
"""Writing a token of text in a batch, in forward passes of one."""
_GENERATED = 12
_GATE_TOKENS = 9_000


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What a job would do.

    ``to_compute`` edits still lack keys and targets; ``statistics_kept`` says that the statistics need not be gathered,
    ``sensitivity_kept`` the same of what targets are optimised by.
    ``seconds`` are estimates by stage: from this model's last job on this memory where there was one (``measured``),
    else from one timed forward pass. ``memory_bytes`` is the peak beyond the loaded model, ``disk_bytes`` what the
    version will take.
    """

    edits: int
    new: int
    gone: int
    skipped: tuple[tuple[str, int], ...]
    to_compute: int
    statistics_kept: bool
    sensitivity_kept: bool
    layers: tuple[int, ...]
    seconds: Mapping[str, float]
    measured: bool
    memory_bytes: int
    disk_bytes: int

    @property
    def total_seconds(self) -> float:
        """The whole job's estimate."""
        return sum(self.seconds.values())


def plan_job(memory: EditMemory, loaded: LoadedModel, selection: Selection, settings: JobSettings) -> JobPlan:
    """Estimate a job.

    Raises:
        UnsupportedModelError: edits cannot be written into this model's weights; says what to do instead.
    """
    site = EditSite.of(loaded, settings.solver)
    known = kept_artefacts(memory, loaded, selection, settings)
    to_compute = len(selection.edits) - len(known)
    kept = _statistics_kept(loaded, site, settings)
    measured = settings.solver.damping is None or sensitivity_kept(loaded, settings.solver)
    units = _units(selection, settings, to_compute, statistics=kept, sensitivity=measured)
    last = _last_rates(memory, loaded)
    rates = last or dict.fromkeys(units, _seconds_a_token(loaded))
    seconds = {stage: units[stage] * rates.get(stage, next(iter(rates.values()))) for stage in units}
    return JobPlan(
        edits=len(selection.edits),
        new=len(selection.new),
        gone=len(selection.gone),
        skipped=tuple(Counter(reason for _, reason in selection.skipped).most_common()),
        to_compute=to_compute,
        statistics_kept=kept,
        sensitivity_kept=measured,
        layers=site.polished,
        seconds={stage: round(value, 1) for stage, value in seconds.items()},
        measured=last is not None,
        memory_bytes=max(
            job_bytes(loaded, settings.solver, len(selection.edits), row_tokens(selection.edits)).values()
        ),
        disk_bytes=_model_bytes(loaded) + delta_bytes(loaded, settings.solver, len(selection.edits)),
    )


def kept_artefacts(
    memory: EditMemory, loaded: LoadedModel, selection: Selection, settings: JobSettings
) -> dict[str, bytes]:
    """Return the keys and targets that the memory keeps for these edits, this model and these settings."""
    fingerprint = artefact_fingerprint(loaded.fingerprint, settings.solver)
    return memory.get_artefacts(artefact_kind(settings), fingerprint, [edit.id for edit in selection.edits])


def artefact_kind(settings: JobSettings) -> str:
    """Return the kind under which keys and targets lie: those of answers that end are others."""
    return f"{ARTEFACTS}/closing" if settings.closing else ARTEFACTS


def keep_rates(
    memory: EditMemory,
    loaded: LoadedModel,
    plan: JobPlan,
    selection: Selection,
    *,
    settings: JobSettings,
    spent: Mapping[str, float],
) -> None:
    """Remember how long each stage took for its work, for the next estimate; stages with nothing to do keep theirs."""
    units = _units(
        selection, settings, plan.to_compute, statistics=plan.statistics_kept, sensitivity=plan.sensitivity_kept
    )
    rates = dict(_last_rates(memory, loaded) or {})
    rates |= {stage: spent[stage] / units[stage] for stage in units if units[stage] > 0 and stage in spent}
    memory.set_setting(_setting(loaded), json.dumps(rates))


def _units(
    selection: Selection, settings: JobSettings, to_compute: int, *, statistics: bool, sensitivity: bool
) -> dict[str, float]:
    """Return the work of every stage in forward passes of one token; ``statistics`` and ``sensitivity`` may be kept."""
    rows = settings.solver.contexts * row_tokens(selection.edits)
    questions = questions_of(selection.edits) * (settings.rounds + 1)  # once of the base too
    asked = (questions + settings.wordings * len(selection.edits)) * _GENERATED
    relayed = settings.rounds * len(selection.edits) * 2 * rows if settings.solver.relay else 0
    samples = _WRITTEN if settings.statistics_text is None else 1.0
    once = 0.0 if sensitivity or not to_compute else settings.solver.sensitivity_tokens * (_WRITTEN + _BACKWARD)
    polishing = settings.rounds * settings.solver.polish * STEP_TOKENS * (1 + _BACKWARD)
    return {
        "statistics": 0.0 if statistics else settings.statistics_tokens * samples,
        "keys and targets": once + to_compute * rows * settings.solver.steps * _BACKWARD / 2,
        "solve and check": float(asked + relayed + polishing),
        "gates": float(2 * _GATE_TOKENS),
        "write": 0.0,
    }


def row_tokens(edits: Sequence[Edit]) -> float:
    """Return about how many tokens prompt and target of an edit have, on average."""
    lengths = [max(_SHORT_ROW, len(edit.prompt + edit.target) / _CHARACTERS) for edit in edits]
    return sum(lengths) / max(1, len(lengths))


def _last_rates(memory: EditMemory, loaded: LoadedModel) -> dict[str, float] | None:
    kept = memory.get_setting(_setting(loaded))
    return None if kept is None else {str(k): float(v) for k, v in json.loads(kept).items()}


def _setting(loaded: LoadedModel) -> str:
    return f"consolidation.rates/{loaded.fingerprint}"


@torch.no_grad()
def _seconds_a_token(loaded: LoadedModel) -> float:
    """Time a short forward pass on this machine."""
    ids = torch.zeros((8, 32), dtype=torch.long, device=loaded.model.device)
    loaded.model(input_ids=ids[:1], logits_to_keep=1)
    started = time.perf_counter()
    loaded.model(input_ids=ids, logits_to_keep=1)
    return (time.perf_counter() - started) / ids.numel()


def _statistics_kept(loaded: LoadedModel, site: EditSite, settings: JobSettings) -> bool:
    """Say whether statistics of this identity lie in the cache; with a text, reading it tells."""
    documents = None
    if settings.statistics_text is not None:
        documents = [settings.statistics_text.read_text(encoding="utf-8")]
    identity = statistics_identity(loaded, site, documents, settings.statistics_tokens)
    return (cache_home() / "statistics" / str(identity["key"])[:32] / "manifest.json").is_file()


def job_bytes(loaded: LoadedModel, settings: ConsolidationSettings, edits: int, tokens: float) -> dict[str, int]:
    """Return the bytes that the stages of a job need beyond the loaded model; ``tokens`` are those of an edit's row."""
    site = EditSite.of(loaded, settings)
    wide, out, hidden = site.linear.in_features, site.linear.out_features, site.spec.hidden_size
    kept = edits * 4 * (len(site.layers) * (wide + out) + 2 * hidden)
    width = 8 if settings.solve_dtype == "float64" else 4
    # keys as they are stored, as they are stacked, in the solve's dtype and in the basis; residuals likewise
    columns = edits * (wide * (4 + 2 * width) + out * (4 + width))
    moments = (2 * len(site.polished) + 3) * wide * wide * 8
    context = sum(settings.context_tokens) / len(settings.context_tokens)
    relayed = edits * settings.contexts * (tokens + context) * (hidden + 3 * 2) * 4 if settings.relay else 0
    return {
        "keys and targets": int(kept + _activation_bytes(site, settings)),
        "solve": int(kept + columns + moments + relayed + delta_bytes(loaded, settings, edits)),
    }


def _activation_bytes(site: EditSite, settings: ConsolidationSettings) -> int:
    """Return the bytes that a batch of target optimisation keeps for its backward pass."""
    return settings.batch_tokens * site.spec.n_layers * (site.spec.hidden_size * 16 + site.linear.in_features * 3) * 4


def delta_bytes(loaded: LoadedModel, settings: ConsolidationSettings, edits: int) -> int:
    """Return the bytes of the change that so many edits make; a polished one has no low rank."""
    site = EditSite.of(loaded, settings)
    wide, out = site.linear.in_features, site.linear.out_features
    whole = wide * out
    return int(len(site.polished) * (whole if settings.polish else min(edits * (wide + out), whole)) * 4)


def _model_bytes(loaded: LoadedModel) -> int:
    seen: dict[int, Any] = {p.data_ptr(): p for p in loaded.model.parameters()}
    return sum(p.numel() * p.element_size() for p in seen.values())
