"""Filling a version's folder: weights, record, change, model card, report."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from memedit.consolidation.apply import applied, to_peft_lora
from memedit.consolidation.delta_files import save_delta
from memedit.consolidation.loaded import weight_samples
from memedit.consolidation.records import BASE, DELTA, SolvedEdit, VersionRecord, write_record
from memedit.consolidation.verdicts import Gate, overall
from memedit.evaluation.report.version_page import version_page
from memedit.models import LoadedModel
from memedit.models.identity import BaseRecord
from memedit.models.loading import quiet
from memedit.types import Edit, WeightDelta, WeightTerm
from memedit.workflows.consolidate.card import model_card
from memedit.workflows.consolidate.checking import EditCheck
from memedit.workflows.consolidate.settings import JobSettings, settings_json

LORA = "lora"


@dataclasses.dataclass(frozen=True, slots=True)
class Solved:
    """A solution and how its edits did: ``rejected`` are the checks of edits left out of it in earlier rounds."""

    delta: WeightDelta
    checks: tuple[EditCheck, ...]
    rejected: tuple[EditCheck, ...]


def make_record(
    name: str,
    loaded: LoadedModel,
    solved: Solved,
    *,
    namespace: str,
    gates: Sequence[Gate],
    settings: JobSettings,
    seconds: Mapping[str, float],
) -> VersionRecord:
    """Describe a candidate."""
    verdict, reasons = overall(gates)
    norms = {module: _norms(loaded, module, term) for module, term in solved.delta.terms.items()}
    with applied(loaded, solved.delta):
        samples = weight_samples(loaded.model, [f"{module}.weight" for module in solved.delta.terms])
    return VersionRecord(
        name=name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        namespace=namespace,
        method=settings.method,
        base_name=loaded.name,
        base_fingerprint=loaded.fingerprint,
        base=BaseRecord.of(loaded.model, loaded.tokenizer, loaded.name).to_json(),
        settings=settings_json(settings),
        edits=tuple(solved_edit(check) for check in solved.checks),
        rejected=tuple(solved_edit(check) for check in solved.rejected),
        gates=tuple(gates),
        verdict=verdict,
        reasons=reasons,
        norms=norms,
        samples=samples,
        seconds=dict(seconds),
        memedit=installed_version("memedit"),
        scope=settings.scope,
    )


def fill_folder(
    folder: Path, loaded: LoadedModel, solved: Solved, record: VersionRecord, settings: JobSettings
) -> None:
    """Write everything a version consists of into its empty folder."""
    delta = _in_float32(solved.delta)
    with applied(loaded, solved.delta), quiet():
        loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    save_delta(delta, folder / DELTA)
    changed = {f"{module}.weight": loaded.model.get_parameter(f"{module}.weight") for module in delta.terms}
    save_file({name: value.detach().cpu().contiguous() for name, value in changed.items()}, folder / BASE)
    has_lora = settings.lora and _rank(delta) <= settings.lora_rank
    if has_lora:
        to_peft_lora(loaded, solved.delta, folder / LORA)
    write_record(folder, record)
    left_over = [check for check in (*solved.checks, *solved.rejected) if not check.passed]
    page = version_page(record.as_json(), [_told(check.edit, check.reason) for check in left_over])
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "README.md").write_text(model_card(record, lora=has_lora), encoding="utf-8")


def solved_edit(check: EditCheck) -> SolvedEdit:
    """Return what a version says of an edit."""
    return SolvedEdit(
        check.edit.id,
        check.edit.content_hash,
        check.passed,
        check.reason,
        check.chat,
        stored=(check.passed, *check.paraphrases),
        asked=len(check.rows),
        right=sum(check.rows),
        any_wording=check.any_wording,
    )


def _told(edit: Edit, reason: str) -> dict[str, str]:
    return {"id": edit.id, "prompt": edit.prompt, "target": edit.target, "reason": reason}


def _norms(loaded: LoadedModel, module: str, term: WeightTerm) -> tuple[float, float]:
    weight = loaded.model.get_parameter(f"{module}.weight").detach()
    return float(np.linalg.norm(term.matrix())), float(weight.double().norm())


def _rank(delta: WeightDelta) -> int:
    """Return the largest rank of the changes as they lie in factors; of those in full, their smaller side."""
    return max(
        min(term.shape) if term.dense is not None else int(term.factors[0].shape[1]) for term in delta.terms.values()
    )


def _in_float32(delta: WeightDelta) -> WeightDelta:
    def single(matrix: Any) -> Any:
        return None if matrix is None else np.asarray(matrix, dtype=np.float32)

    terms = {n: WeightTerm(single(t.up), single(t.down), single(t.dense)) for n, t in delta.terms.items()}
    return dataclasses.replace(delta, terms=terms)
