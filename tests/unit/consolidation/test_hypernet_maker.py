"""Edits that ask as a trained network says: the ridge and its gradients, the maker, and what does not fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memedit.consolidation import (
    ConsolidationSettings,
    EditArtefact,
    applied,
    artefact_fingerprint,
    build_statistics,
    compute_artefacts,
    solve,
)
from memedit.errors import ConfigError, FingerprintMismatchError, InputError, ModelNotFoundError
from memedit.models import LoadedModel
from memedit.models.hypernet.config import HypernetConfig
from memedit.models.hypernet.network import solved
from memedit.training.hypernet.run import train_hypernet
from memedit.training.hypernet.settings import HypernetSettings
from support.consolidation_bench import REQUESTS, SETTINGS, TEXTS, normal, tiny_loaded
from support.hypernet_bench import write_hypernet

TRAINING = HypernetSettings(
    steps=12, batch=4, asked=4, step_size=0.25, ridge=1.0, locality=1.0, ramp=2, row_tokens=80, chat=0.0,
    learning_rate=1e-2, dtype="float32",
)  # fmt: skip
SHAPE = HypernetConfig(layers=(1, 2), rank=8, aggregate="ridge")


def write_rows(path: Path) -> Path:
    rows = [
        {
            "prompt": request.prompt,
            "target_new": request.target,
            "rephrase_prompt": f"Say it: {request.prompt}",
            "locality_prompt": f"the lake of {request.subject} is",
        }
        for request in REQUESTS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_loaded()


@pytest.fixture(scope="module")
def folder(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("rledit")
    report = train_hypernet(
        loaded, whole=[write_rows(where / "rows.jsonl")], out=where, preset="rledit", config=SHAPE, settings=TRAINING
    )
    assert sum(loss.edit for loss in report.losses[-3:]) < sum(loss.edit for loss in report.losses[:3])
    return where


@pytest.fixture
def settings(folder: Path) -> ConsolidationSettings:
    return replace(SETTINGS, layers=None, network=str(folder)).for_method("rledit")


@pytest.mark.parametrize("rows", [7, 3])
def test_the_ridge_is_the_normal_equation_and_its_gradients_are_those_of_differences(rows: int) -> None:
    keys, wanted, lam = normal(2, rows, 5, seed=1), normal(2, rows, 4, seed=2), normal(2, seed=3)
    for m in range(2):
        k, v = keys[m], wanted[m]
        whole = torch.linalg.solve(k.T @ k + lam[m].exp() * torch.eye(5, dtype=torch.float64), k.T @ v).T
        torch.testing.assert_close(solved(keys, wanted, lam)[m].T @ k, whole)
    wanted.requires_grad_(), lam.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, ridge: solved(keys, v, ridge), (wanted, lam))


def test_an_edit_asks_by_itself_and_is_kept(loaded: LoadedModel, settings: ConsolidationSettings) -> None:
    together = compute_artefacts(loaded, REQUESTS, settings)
    for request in REQUESTS:
        alone = compute_artefacts(loaded, [request], settings)[request.id]
        kept = EditArtefact.from_bytes(together[request.id].to_bytes())
        assert (kept.layers, kept.ridges, kept.by_gradient) == ((1, 2), together[request.id].ridges, False)
        for layer in (1, 2):
            np.testing.assert_allclose(alone.residuals[layer], kept.residuals[layer], rtol=1e-3, atol=1e-5)


def test_a_solve_writes_them_as_in_training_and_is_a_function_of_the_set(
    loaded: LoadedModel, settings: ConsolidationSettings, tmp_path: Path
) -> None:
    statistics = build_statistics(loaded, settings, TEXTS, store=tmp_path)
    artefacts = compute_artefacts(loaded, REQUESTS, settings)
    delta = solve(loaded, artefacts, statistics, settings, "rledit", requests=REQUESTS)
    turned = solve(loaded, dict(reversed(list(artefacts.items()))), statistics, settings, "malmen")
    for (name, term), layer in zip(sorted(delta.terms.items()), (1, 2), strict=True):
        assert np.array_equal(term.matrix(), turned.terms[name].matrix())
        keys, wanted = (
            torch.from_numpy(np.concatenate([getattr(artefacts[edit], part)[layer] for edit in sorted(artefacts)]))
            for part in ("keys", "residuals")
        )
        ridges = torch.tensor([(artefacts["a"].ridges or {})[layer]]).log()
        written = solved(keys[None], wanted[None], ridges)[0].T @ keys
        np.testing.assert_allclose(term.matrix(), written.numpy(), rtol=1e-3, atol=1e-5)
    with applied(loaded, delta):
        after = compute_artefacts(loaded, REQUESTS, settings)
    assert sum(a.initial_loss for a in after.values()) < sum(a.initial_loss for a in artefacts.values())


def test_a_learning_rate_of_zero_learns_steps_and_ridges_alone(loaded: LoadedModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    rows, still = write_rows(tmp_path / "rows.jsonl"), replace(TRAINING, learning_rate=0.0)
    for name, steps in (("one", 1), ("more", 6)):
        wanted = replace(still, steps=steps)
        train_hypernet(loaded, whole=[rows], out=tmp_path / name, preset="malmen", config=SHAPE, settings=wanted)
    one, more = (load_file(tmp_path / name / "hypernet.safetensors") for name in ("one", "more"))
    moved = {name for name in one if not torch.equal(one[name], more[name])}
    assert moved == {"step_sizes", "ridges"}
    assert not any(value.any() for name, value in more.items() if name.startswith("write_"))


def test_what_does_not_fit_is_refused(loaded: LoadedModel, settings: ConsolidationSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train hypernet"):
        ConsolidationSettings().for_method("rledit")
    with pytest.raises(ModelNotFoundError, match="train hypernet"):
        compute_artefacts(loaded, REQUESTS, replace(settings, network=str(tmp_path / "none")))
    with pytest.raises(InputError, match="edits layers"):
        compute_artefacts(loaded, REQUESTS, replace(settings, layers=(0, 1)))
    single = write_hypernet(tmp_path / "mend", loaded.model, loaded.tokenizer)
    with pytest.raises(InputError, match="preset rledit"):
        compute_artefacts(loaded, REQUESTS, replace(settings, network=str(single)))
    other: Any = tiny_loaded("gpt2")
    with pytest.raises(FingerprintMismatchError):
        compute_artefacts(other, REQUESTS, settings)
    statistics = build_statistics(loaded, settings, TEXTS, store=tmp_path)
    gradients = compute_artefacts(loaded, REQUESTS, replace(settings, maker="gradient", layers=(1, 2)))
    with pytest.raises(InputError, match="maker"):
        solve(loaded, gradients, statistics, replace(settings, gradient_rounds=1), "rledit")


def test_a_network_trained_anew_is_another_fingerprint(
    loaded: LoadedModel, settings: ConsolidationSettings, tmp_path: Path
) -> None:
    first = (artefact_fingerprint("base", settings), settings.fingerprint)
    rows, again = write_rows(tmp_path / "rows.jsonl"), replace(TRAINING, seed=1, steps=2)
    train_hypernet(loaded, whole=[rows], out=tmp_path, preset="rledit", config=SHAPE, settings=again)
    other = replace(settings, network=str(tmp_path))
    assert artefact_fingerprint("base", other) != first[0]
    assert other.fingerprint != first[1]
