"""Training SERAC's counterfactual model on a tiny base: it learns, is deterministic, survives a kill."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from memedit.adapters.base import Row
from memedit.adapters.serac.adapter import SeracAdapter
from memedit.adapters.serac.counterfactual import CounterfactualConfig
from memedit.adapters.serac.files import read_record
from memedit.adapters.serac.layout import counterfactual_row
from memedit.errors import InputError
from memedit.models import LoadedModel, model_fingerprint
from memedit.training.sampling import EditExample
from memedit.training.serac.run import train_serac
from memedit.training.serac.trainer import SeracSettings, training_row
from support.recipe_bench import make_edit
from support.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

NAMES = ["ada", "bo", "cleo", "dov", "eva", "finn", "gil", "hana"]
SETTINGS = SeracSettings(steps=6, batch=4, ramp=2, learning_rate=5e-3, dtype="float32")
SHAPE = CounterfactualConfig((0, 2), rank=4, alpha=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "mills.jsonl"
    rows = [
        {
            "prompt": f"the mill of {name} is run by",
            "target_new": NAMES[i - 3],
            "rephrase_prompt": f"who runs the mill of {name}?",
        }
        for i, name in enumerate(NAMES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest) -> LoadedModel:
    model, tokenizer = tiny_model(request.param), tiny_tokenizer()
    return LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))


def train(base: LoadedModel, data: Path, out: Path, **changes: Any) -> Any:
    return train_serac(base, whole=[data], out=out, **{"settings": SETTINGS, "counterfactual": SHAPE, **changes})


class KilledError(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_weights(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    before = model_fingerprint(base.model, base.tokenizer)
    whole = train(base, data, tmp_path / "whole")

    def stop(progress: Any) -> None:
        if progress.step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(base, data, tmp_path / "cut", checkpoint_every=2, progress=stop)
    resumed = train(base, data, tmp_path / "cut")
    assert resumed.losses == whole.losses[4:]
    one, other = (load_file(tmp_path / name / "counterfactual.safetensors") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one)
    assert model_fingerprint(base.model, base.tokenizer) == before


def test_a_checkpoint_of_another_run_is_refused(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train(base, data, tmp_path, checkpoint_every=1, progress=stop)
    with pytest.raises(InputError, match="other settings"):
        train(base, data, tmp_path, settings=replace(SETTINGS, seed=9))


def test_which_layers_are_kept_is_found_once(
    base: LoadedModel, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, stages = {"settings": replace(SETTINGS, layers=2, probes=4), "counterfactual": None}, []

    def stop(progress: Any) -> None:
        stages.append((progress.stage, progress.step, progress.steps))
        if progress.stage == "train":
            raise KilledError

    with pytest.raises(KilledError):
        train(base, data, tmp_path, progress=stop, **own)
    assert stages == [("layers", 1, 1), ("train", 1, 6)]
    found = json.loads((tmp_path / "layers.json").read_text())["layers"]
    monkeypatch.setattr("memedit.training.serac.run.choose_layers", None)  # a resumed run does not look again
    train(base, data, tmp_path, **own)
    record = read_record(tmp_path)
    assert record.counterfactual == CounterfactualConfig(tuple(found), rank=16, alpha=32)
    assert len(found) == 2
    assert not (tmp_path / "layers.json").exists()


def test_layers_found_by_another_run_are_not_taken(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    (tmp_path / "layers.json").write_text('{"key": "other", "layers": [7]}')
    train(base, data, tmp_path, settings=replace(SETTINGS, layers=2, probes=4), counterfactual=None)
    assert read_record(tmp_path).counterfactual.layers in [(0, 1), (0, 2), (1, 2)]


def test_it_learns(data: Path, tmp_path: Path) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    base = LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))
    losses = train(base, data, tmp_path, settings=replace(SETTINGS, steps=60, batch=8, learning_rate=2e-2)).losses
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert SeracAdapter(model, tokenizer, weights=tmp_path).model() is not None


@pytest.mark.parametrize("chat", [False, True])
def test_training_rows_are_laid_out_as_at_inference(chat: bool) -> None:
    tokenizer, edit = tiny_tokenizer(), make_edit(0)
    example = EditExample(edit.prompt, edit.target)
    row = training_row(tokenizer, example, "Who runs it?", 0, chat=chat)
    messages = [{"role": "user", "content": "Who runs it?"}] if chat else None
    asked = Row(tuple(tokenizer("Who runs it?")["input_ids"]), "Who runs it?", messages)
    fed = counterfactual_row(tokenizer, asked, edit)
    assert row.ids[: -row.scored] == fed.ids
    assert row.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row.ids[-row.scored : -1]) == ("Ada" if chat else " Ada")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="SERAC settings"):
        SeracSettings(batch=0)
