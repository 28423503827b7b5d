"""How long it takes to take one of many edits out of the weights, from kept keys and targets."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from memedit.bench.common import made_up_facts
from memedit.bench.memory_steps import peak_mb
from memedit.consolidation import EditArtefact, Statistics, solve
from memedit.consolidation.base import ConsolidationSettings, artefact_fingerprint
from memedit.consolidation.site import EditSite
from memedit.encoders.base import Encoder
from memedit.errors import InputError
from memedit.memory import EditMemory
from memedit.models import LoadedModel
from memedit.types import WeightDelta
from memedit.workflows.consolidate.forecast import Line, Rates, measured_speed, solve_seconds, stand_in_statistics
from memedit.workflows.consolidate.planning import ARTEFACTS, job_bytes

_ROW_TOKENS = 8.0


def run(
    loaded: LoadedModel,
    encoder: Encoder,
    *,
    edits: int = 10_000,
    method: str = "alphaedit",
    settings: ConsolidationSettings | None = None,
    folder: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Solve for many edits, then for all but one, both times from what the memory keeps.

    Keys and targets are made up: normal numbers in the shapes of the model. What a solve costs does not depend on them.
    Keys are taken as they are stored (``relay`` off): measuring them again on the written layers is a forward pass of
    every edit, which no withdrawal within a minute can have.

    Args:
        loaded: the model whose shapes count.
        encoder: of the memory; its vectors are made up too.
        edits: how many.
        method: a solver's name.
        settings: of the solve.
        folder: where the memory goes (a temporary folder, removed afterwards).
        seed: of what is made up.

    Returns:
        A JSON-able mapping: ``all_s`` to solve for all, ``withdraw_s`` to read what is kept and solve without one (and
        their ``cpu``), ``same_bits``: whether the weights are those of a memory that never had the edit, ``peak_mb``
        beside ``planned_mb``, and ``planned_solve_s``.

    Raises:
        InputError: fewer than two edits.
    """
    if edits < 2:
        raise InputError(f"edits={edits}: one must be left when one is withdrawn")
    settings = replace(settings or ConsolidationSettings(), relay=False, polish=0)
    statistics = stand_in_statistics(loaded, settings)
    fingerprint = artefact_fingerprint(loaded.fingerprint, settings)
    before = peak_mb()
    with (
        TemporaryDirectory(dir=folder, prefix="memedit-bench-") as name,
        EditMemory(Path(name) / "edits.db", encoder=encoder) as memory,
    ):
        _fill(memory, fingerprint, _made_up(loaded, settings, edits, seed), seed)
        ids = [edit.id for edit in memory.list()]

        def solved(wanted: list[str]) -> tuple[WeightDelta, float, float]:
            wall, cpu = time.perf_counter(), time.process_time()
            kept = memory.get_artefacts(ARTEFACTS, fingerprint, wanted)
            artefacts = {edit: EditArtefact.from_bytes(data) for edit, data in kept.items()}
            delta = _solved(loaded, artefacts, statistics, settings, method)
            return delta, time.perf_counter() - wall, time.process_time() - cpu

        _, all_wall, all_cpu = solved(ids)
        gone = ids[len(ids) // 2]
        memory.delete(gone)
        left = [edit.id for edit in memory.list()]
        without, wall, cpu = solved(left)
        size = memory.stats().database_bytes
    never = _made_up(loaded, settings, edits, seed)
    chosen = {edit: artefact for edit, artefact in zip(ids, never, strict=True) if edit != gone}
    other = _solved(loaded, chosen, statistics, settings, method)
    rates = Rates(Line(0.0, 0.0), Line(0.0, 0.0), measured_speed())
    return {
        "benchmark": "withdrawal",
        "model": loaded.name,
        "method": method,
        "edits": edits,
        "layers": list(EditSite.of(loaded, settings).layers),
        "all_s": round(all_wall, 2),
        "all_cpu_s": round(all_cpu, 2),
        "withdraw_s": round(wall, 2),
        "withdraw_cpu_s": round(cpu, 2),
        "planned_solve_s": round(solve_seconds(loaded, settings, edits, rates), 2),
        "same_bits": all(
            np.array_equal(without.terms[name].matrix(), other.terms[name].matrix()) for name in other.terms
        ),
        "database_bytes": size,
        "peak_mb": peak_mb() - before,
        "planned_mb": job_bytes(loaded, settings, edits, _ROW_TOKENS)["solve"] >> 20,
    }


def _solved(
    loaded: LoadedModel,
    artefacts: Mapping[str, EditArtefact],
    statistics: Statistics,
    settings: ConsolidationSettings,
    method: str,
) -> WeightDelta:
    return solve(loaded, artefacts, statistics, settings, method)


def _made_up(loaded: LoadedModel, settings: ConsolidationSettings, edits: int, seed: int) -> list[EditArtefact]:
    site = EditSite.of(loaded, settings)
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    wide, out, hidden = site.linear.in_features, site.linear.out_features, site.spec.hidden_size
    return [
        EditArtefact(
            keys={layer: normal(1, wide) for layer in site.layers},
            residuals={layer: 0.01 * normal(1, out) for layer in site.layers},
            hidden=normal(hidden),
            target=normal(hidden),
            initial_loss=5.0,
            final_loss=0.05,
            steps=10,
        )
        for _ in range(edits)
    ]


def _fill(memory: EditMemory, fingerprint: str, artefacts: list[EditArtefact], seed: int) -> None:
    """Put edits with made-up vectors into the memory, and their keys and targets in order."""
    vectors = np.random.default_rng(seed).standard_normal((len(artefacts), memory.encoder.dimension), dtype=np.float32)
    report = memory.add_many(made_up_facts(len(artefacts), seed), vectors=vectors)
    for at in range(0, len(artefacts), 512):
        part = zip(report.ids[at : at + 512], artefacts[at : at + 512], strict=True)
        memory.put_artefacts(ARTEFACTS, fingerprint, {edit: artefact.to_bytes() for edit, artefact in part})
