"""The Fisher information behind the top edited layer, and what it does to targets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from memedit.consolidation import compute_artefacts
from memedit.consolidation.moments import LayerMoments
from memedit.consolidation.samples import own_samples
from memedit.consolidation.sensitivity import natural_direction, sensitivity
from memedit.errors import ConfigError
from support.consolidation_bench import REQUESTS, SETTINGS, random_moments, tiny_loaded, weights_of


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_it_predicts_what_a_small_change_of_the_state_costs(family: str, tmp_path: Path) -> None:
    """KL(base, changed) over the text is ``d^T F d / 2`` a token, averaged over random small changes ``d``."""
    loaded = tiny_loaded(family)
    settings = replace(SETTINGS, sensitivity_tokens=1024)
    fisher = sensitivity(loaded, settings, store=tmp_path).matrix()
    ids = torch.tensor([row for row in own_samples(loaded, tokens=512, window=128, seed=3) if len(row) == 128])
    block = loaded.model.get_submodule(_block(loaded.model, 1))
    with torch.no_grad():
        base = loaded.model(input_ids=ids).logits.log_softmax(-1)
        generator = torch.Generator().manual_seed(0)
        costs, predicted = [], []
        for _ in range(8):
            change = 0.02 * torch.randn(ids.shape[0], ids.shape[1], fisher.shape[0], generator=generator)
            change[:, 0] = 0.0
            handle = block.register_forward_hook(lambda _m, _a, out, d=change: _raised(out, d))
            after = loaded.model(input_ids=ids).logits.log_softmax(-1)
            handle.remove()
            costs.append(float((base.exp() * (base - after)).sum(-1).sum()))
            moved = change.reshape(-1, fisher.shape[0]).double()
            predicted.append(0.5 * float(((moved @ fisher) * moved).sum()))
    assert np.mean(costs) == pytest.approx(np.mean(predicted), rel=0.35)


def test_a_step_gains_more_for_what_it_costs() -> None:
    """To first order a natural step has the largest gain for its cost ``d^T F d``."""
    loaded = tiny_loaded()
    settings = replace(SETTINGS, steps=2, learning_rate=0.02, kl_factor=0.0, weight_decay=0.0, contexts=1)
    fisher = sensitivity(loaded, settings).matrix().numpy()
    gained: dict[float | None, list[float]] = {}
    for damping in (None, 0.02):
        for artefact in compute_artefacts(loaded, REQUESTS, replace(settings, damping=damping)).values():
            moved = artefact.target - artefact.hidden
            gain = artefact.initial_loss - artefact.final_loss
            gained.setdefault(damping, []).append(gain / float(moved @ fisher @ moved) ** 0.5)
    assert all(natural > 1.05 * plain > 0 for plain, natural in zip(gained[None], gained[0.02], strict=True))


def test_it_depends_on_base_and_settings_alone_and_moves_no_weight(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    before = weights_of(loaded.model)
    first = sensitivity(loaded, SETTINGS, store=tmp_path / "one")
    second = sensitivity(loaded, SETTINGS, store=tmp_path / "two")
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.vectors, second.vectors)
    assert first.count == 63  # every token but the window's first
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())


def test_it_is_kept_under_a_complete_key_and_measured_again_when_damaged(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    made = sensitivity(loaded, SETTINGS, store=tmp_path)
    (file,) = tmp_path.iterdir()
    header = {"key": _key_of(file), "count": "63"}
    save_file({**load_file(file), "values": made.values + 1.0}, file, metadata=header)
    assert torch.equal(sensitivity(loaded, SETTINGS, store=tmp_path).values, made.values + 1.0)  # it is read
    file.write_bytes(b"not a tensor file")
    assert torch.equal(sensitivity(loaded, SETTINGS, store=tmp_path).values, made.values)
    for other in (replace(SETTINGS, layers=(0,)), replace(SETTINGS, sensitivity_tokens=65), replace(SETTINGS, seed=1)):
        sensitivity(loaded, other, store=tmp_path)
    sensitivity(tiny_loaded("gpt2"), SETTINGS, store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
    sensitivity(loaded, replace(SETTINGS, damping=0.5, l2=7.0), store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_where_nothing_can_be_kept_it_is_still_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert sensitivity(tiny_loaded(), SETTINGS, store=tmp_path / "file").count == 63


def test_the_natural_direction_undoes_the_damped_information() -> None:
    fisher = random_moments(12, seed=0)
    damped = fisher.matrix() / fisher.scale + 0.05 * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(
        natural_direction(fisher, 0.05).double() @ damped, torch.eye(12).double(), atol=1e-4, rtol=0
    )
    flat = LayerMoments(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), 1)
    assert torch.equal(natural_direction(flat, 0.05), torch.eye(3))


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match=r"damping must be None or above 0, got 0(.|\n)*sensitivity_tokens must be"):
        replace(SETTINGS, damping=0.0, sensitivity_tokens=1)


def _block(model: torch.nn.Module, layer: int) -> str:
    from memedit.models import ModelSpec

    return f"{ModelSpec.of(model).layers}.{layer}"


def _raised(output: object, change: torch.Tensor) -> object:
    if isinstance(output, tuple):
        return (output[0] + change, *output[1:])
    return output + change  # type: ignore[operator]


def _key_of(file: Path) -> str:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return str(opened.metadata()["key"])
