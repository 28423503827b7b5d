"""Training RECIPE on a tiny model: it learns, is deterministic, survives a kill, refuses what does not fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from memedit.adapters.recipe.adapter import RecipeAdapter
from memedit.errors import DatasetError, FingerprintMismatchError, InputError
from memedit.evaluation.datasets.splits import is_training_row
from memedit.models import LoadedModel, model_fingerprint
from memedit.models.training import training_copy
from memedit.training.facts import load_facts
from memedit.training.recipe.run import train_recipe
from memedit.training.recipe.trainer import RecipeSettings, RecipeTrainer
from memedit.training.sampling import Draw
from support.recipe_bench import SHAPE, TOKENS, make_edit
from support.tiny import tiny_model, tiny_tokenizer
from support.tiny_encoder import save_tiny_encoder

pytestmark = pytest.mark.slow

NAMES = ["ada", "bo", "cleo", "dov", "eva", "finn", "gil", "hana"]
SETTINGS = RecipeSettings(
    steps=4, warm_steps=3, batch=4, warm_batch=4, ramp=2, learning_rate=5e-3, encoder_learning_rate=5e-3, chat=0.3,
    dtype="float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "mills.jsonl"
    rows = [
        {
            "prompt": f"the mill of {name} is run by",
            "target_new": NAMES[i - 3],
            "rephrase_prompt": f"who runs the mill of {name}?",
            "locality_prompt": f"the lake of {name} is",
        }
        for i, name in enumerate(NAMES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest) -> LoadedModel:
    model, tokenizer = tiny_model(request.param), tiny_tokenizer()
    return LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))


def train(base: LoadedModel, data: Path, encoder: Path, out: Path, **changes: Any) -> Any:
    options = {"settings": SETTINGS, "knowledge": SHAPE, "prompt_tokens": TOKENS, **changes}
    return train_recipe(base, whole=[data], out=out, encoder=encoder, **options)


def tensors(folder: Path) -> dict[str, Any]:
    return {**load_file(folder / "knowledge.safetensors"), **load_file(folder / "prompts.safetensors")}


class KilledError(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_weights(base: LoadedModel, data: Path, encoder: Path, tmp_path: Path) -> None:
    before = model_fingerprint(base.model, base.tokenizer)
    whole = train(base, data, encoder, tmp_path / "whole")
    assert len(whole.losses) == SETTINGS.total == 7

    def stop(progress: Any) -> None:
        if progress.step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(base, data, encoder, tmp_path / "cut", checkpoint_every=2, progress=stop)
    assert not (tmp_path / "cut" / "recipe.json").exists()
    seen: list[int] = []
    resumed = train(base, data, encoder, tmp_path / "cut", progress=lambda p: seen.append(p.step))
    assert seen == [5, 6, 7]
    assert resumed.losses == whole.losses[4:]
    one, other = tensors(tmp_path / "whole"), tensors(tmp_path / "cut")
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one)
    assert model_fingerprint(base.model, base.tokenizer) == before  # the base is not touched
    assert not list((tmp_path / "cut").glob("*checkpoint*"))


def test_more_edits_are_compared_than_scored(
    base: LoadedModel, data: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[Draw] = []
    scored: list[Draw] = []
    contrastive, edit_loss = RecipeTrainer._contrastive, RecipeTrainer._edit_loss

    def note(trainer: RecipeTrainer, draw: Draw, knowledge: Tensor) -> Tensor:
        compared.append(draw)
        return contrastive(trainer, draw, knowledge)

    def score(trainer: RecipeTrainer, draw: Draw, prompts: Tensor) -> float:
        scored.append(draw)
        assert len(prompts) == len(draw.examples)
        knowledge = trainer.network.encoder.knowledge([example.text for example in draw.examples])
        spelt = trainer._spelling.of([example.target for example in draw.examples])
        torch.testing.assert_close(prompts, trainer.network.prompts(knowledge, spelt), atol=1e-4, rtol=1e-4)
        return edit_loss(trainer, draw, prompts)

    monkeypatch.setattr(RecipeTrainer, "_contrastive", note)
    monkeypatch.setattr(RecipeTrainer, "_edit_loss", score)
    train(base, data, encoder, tmp_path, settings=replace(SETTINGS, steps=1, warm_steps=0, batch=3, contrasted=8))
    assert (len(compared[0].examples), len(scored[0].examples)) == (8, 3)
    assert set(scored[0].examples) < set(compared[0].examples)
    with pytest.raises(InputError, match="contrasted"):
        replace(SETTINGS, contrasted=0)


def test_another_seed_gives_other_weights(base: LoadedModel, data: Path, encoder: Path, tmp_path: Path) -> None:
    train(base, data, encoder, tmp_path / "a", settings=replace(SETTINGS, steps=1, warm_steps=1))
    train(base, data, encoder, tmp_path / "b", settings=replace(SETTINGS, steps=1, warm_steps=1, seed=1))
    one, other = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert any(bool((one[name] != other[name]).any()) for name in one)


def test_training_goes_on_from_a_trained_network(base: LoadedModel, data: Path, encoder: Path, tmp_path: Path) -> None:
    train(base, data, encoder, tmp_path / "first")
    still = replace(SETTINGS, steps=1, warm_steps=0, weight_decay=0.0, learning_rate=1e-12, steer_rate=1e-12)
    still = replace(still, lead_rate=1e-12, encoder_learning_rate=1e-12)
    train(base, data, encoder, tmp_path / "second", settings=still, start=tmp_path / "first")
    one, other = tensors(tmp_path / "first"), tensors(tmp_path / "second")
    assert all(bool((one[name] == other[name]).all()) for name in one)  # as float16: where it began
    train(base, data, encoder, tmp_path / "third", settings=replace(SETTINGS, steps=1), start=tmp_path / "first")
    moved = tensors(tmp_path / "third")
    assert any(bool((one[name] != moved[name]).any()) for name in one)


def test_a_network_of_another_base_is_no_start(data: Path, encoder: Path, tmp_path: Path) -> None:
    bases = [
        LoadedModel(model, tiny_tokenizer(), family, model_fingerprint(model, tiny_tokenizer()))
        for family in ("llama", "gpt2")
        for model in [tiny_model(family)]
    ]
    train(bases[0], data, encoder, tmp_path / "first")
    with pytest.raises(FingerprintMismatchError):
        train(bases[1], data, encoder, tmp_path / "second", start=tmp_path / "first")


def test_a_checkpoint_of_another_run_is_refused(base: LoadedModel, data: Path, encoder: Path, tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        if progress.step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(base, data, encoder, tmp_path, checkpoint_every=2, progress=stop)
    with pytest.raises(InputError, match="other settings"):
        train(base, data, encoder, tmp_path, settings=replace(SETTINGS, seed=5))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="cannot read the checkpoint"):
        train(base, data, encoder, tmp_path)
    train(base, data, encoder, tmp_path, resume=False)


def test_it_learns_edits_and_the_adapter_uses_them(data: Path, encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    base = LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))
    settings = replace(SETTINGS, steps=50, warm_steps=15, batch=8, warm_batch=8, swap=0.0, chat=0.0, learning_rate=1e-2)
    losses = train(base, data, encoder, tmp_path, settings=settings).losses
    assert sum(p.edit for p in losses[-5:]) < 0.9 * sum(p.edit for p in losses[15:20])
    assert sum(p.contrastive for p in losses[-5:]) < 0.5 * sum(p.contrastive for p in losses[:5])
    adapter = RecipeAdapter(model, tokenizer, weights=tmp_path)
    blobs = adapter.prepare([make_edit(0, "the mill of ada is run by", "finn")])
    assert set(blobs) == {"e0"}


def test_rows_come_from_the_training_half_or_whole(data: Path) -> None:
    every = load_facts([], whole=[data])
    assert [fact.target for fact in load_facts([], whole=[f"{data}:2"])] == [NAMES[-3], NAMES[-2]]
    half = load_facts([data])
    assert [f.prompt for f in half] == [f.prompt for f in every if is_training_row(f.prompt)]
    assert 0 < len(half) < len(every) == len(NAMES)
    with pytest.raises(DatasetError, match="no such file"):
        load_facts(["absent.jsonl"])
    with pytest.raises(DatasetError, match="no rows"):
        load_facts([])


def test_the_training_copy_is_the_model_itself_unless_the_dtype_changes() -> None:
    model = tiny_model("llama")
    assert training_copy(model, "float32") is model
    other = training_copy(model, "bfloat16")
    assert str(other.dtype) == "torch.bfloat16"
    assert str(model.dtype) == "torch.float32"
    own = training_copy(model, "float32", own=True)
    assert own is not model
    for copied in (other, own):  # the fused attention's gradient is slow on a processor
        assert copied.config._attn_implementation == "eager"
    assert model.config._attn_implementation != "eager"


@pytest.mark.parametrize("change", [{"batch": 0}, {"steps": -1}, {"swap": 1.5}, {"learning_rate": 0.0}])
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="RECIPE settings"):
        RecipeSettings(**change)
