"""Training a hypernetwork on a tiny model: it learns, survives a kill, refuses what does not fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

from memedit.adapters.hypernet.adapter import KnowledgeEditorAdapter, MendAdapter, PropMendAdapter
from memedit.errors import DatasetError, InputError, UnknownNameError
from memedit.models import LoadedModel, model_fingerprint
from memedit.models.hypernet.files import new_network
from memedit.models.hypernet.knowledge_editor import KnowledgeEditor, read_text
from memedit.models.hypernet.network import compressed, within_rank
from memedit.models.segments import Segments
from memedit.training.hypernet.kinds import HypernetTrainer
from memedit.training.hypernet.lessons import Example, LessonMaker
from memedit.training.hypernet.propagation import example_of, made_up
from memedit.training.hypernet.run import train_hypernet
from memedit.training.hypernet.settings import HypernetSettings, preset_of
from memedit.training.hypernet.trainer import moments
from support.hypernet_bench import SHAPE
from support.recipe_bench import make_edit
from support.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

NAMES = ("ada", "bo", "cleo", "dov", "eva", "finn", "gil", "hana")
SETTINGS = HypernetSettings(
    steps=16, batch=4, learning_rate=2e-2, step_size=1e-2, ramp=2, row_tokens=80, chat=0.3, dtype="float32"
)


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    return LoadedModel(model, tokenizer, "tiny", model_fingerprint(model, tokenizer))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "mills.jsonl"
    rows = [
        {
            "prompt": f"the mill of {name} is run by",
            "target_new": NAMES[i - 3],
            "rephrase_prompt": f"who runs {name}'s mill?",
            "locality_prompt": f"the lake of {name} is",
        }
        for i, name in enumerate(NAMES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train(base: LoadedModel, data: Path, out: Path, **changes: Any) -> Any:
    return train_hypernet(base, whole=[data], out=out, **{"config": SHAPE, "settings": SETTINGS, **changes})


class KilledError(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_network(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    whole = train(base, data, tmp_path / "whole")
    assert (whole.steps, whole.examples) == (16, 8)
    assert sum(loss.edit for loss in whole.losses[-4:]) < 0.8 * sum(loss.edit for loss in whole.losses[:4])

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "steps" and done == 7:
            raise KilledError

    with pytest.raises(KilledError):
        train(base, data, tmp_path / "cut", checkpoint_every=4, progress=stop)
    assert not (tmp_path / "cut" / "hypernet.json").exists()
    with pytest.raises(InputError, match="another"):
        train(base, data, tmp_path / "cut", settings=replace(SETTINGS, seed=1))
    resumed = train(base, data, tmp_path / "cut")
    assert resumed.losses == whole.losses[4:]
    one, other = (load_file(tmp_path / name / "hypernet.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert model_fingerprint(base.model, base.tokenizer) == base.fingerprint
    assert MendAdapter(base.model, base.tokenizer, weights=tmp_path / "whole").name == "mend"


def test_lessons_hold_what_the_whole_model_computes(base: LoadedModel) -> None:
    example = Example("the mill of ada is run by", "bo", (("who runs it?", "bo"),), "the lake is")
    segments = Segments(base.model)
    modules, maker = SHAPE.modules(segments.spec), LessonMaker(segments, base.tokenizer, SHAPE, SETTINGS)
    lesson, longer = maker.of([example, replace(example, target="bobo"), replace(example, target="x" * 20)])
    assert longer.inputs.shape[1] != lesson.inputs.shape[1] == len(lesson.prompt.answer) == 4
    ids = torch.tensor([lesson.prompt.fed])
    weight = base.model.get_parameter(f"{modules[1]}.weight").requires_grad_()
    logits = base.model(input_ids=ids).logits[0, -4:]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(lesson.prompt.answer))
    wanted = torch.autograd.grad(loss, weight)[0]
    weight.requires_grad_(False)
    torch.testing.assert_close(lesson.gradients[1].T @ lesson.inputs[1], wanted, atol=1e-5, rtol=1e-3)


def test_gradients_reach_every_part_and_locality_pulls_back(base: LoadedModel) -> None:
    examples = [
        Example(f"the mill of {name} is run by", NAMES[i - 3], (), f"the lake of {name} is")
        for i, name in enumerate(NAMES)
    ]
    segments = Segments(base.model)
    lessons = LessonMaker(segments, base.tokenizer, SHAPE, SETTINGS).of(examples)
    found = {}
    for weight in (0.0, 30.0):
        network = new_network(SHAPE, base.model, step_size=SETTINGS.step_size)
        trainer = HypernetTrainer(network, segments, lessons, replace(SETTINGS, locality_weight=weight))
        before = {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}
        for step in range(10):
            trainer.step(step)
        assert all(not torch.equal(before[name], parameter) for name, parameter in trainer.parameters.items())
        measured = HypernetTrainer(network, segments, lessons, SETTINGS)
        local = measured._locality_loss(measured.factors(lessons), lessons, range(len(lessons)))
        assert local is not None
        found[weight] = float(local.detach())
    assert found[30.0] < 0.5 * found[0.0]
    mean, deviation = moments(lessons)
    pairs = torch.cat([torch.cat([one.inputs, one.gradients], -1).flatten(0, 1) for one in lessons])
    torch.testing.assert_close(mean, pairs.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(deviation, pairs.std(0), atol=1e-5, rtol=1e-3)


def test_refuses_settings_and_presets_that_do_not_exist(base: LoadedModel, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="mend"):
        preset_of("ment")
    for wrong in ({"steps": 0}, {"chat": 2.0}, {"step_size": 0.0}, {"locality_weight": -1.0}):
        with pytest.raises(InputError, match="out of range"):
            replace(SETTINGS, **wrong)
    with pytest.raises(InputError, match="no edits"):
        train(base, data, tmp_path, settings=replace(SETTINGS, row_tokens=2))
    with pytest.raises(InputError, match="layers"):
        train_hypernet(base, whole=[data], out=tmp_path, config=replace(SHAPE, layers=(1, 9)), settings=SETTINGS)


def test_what_follows_is_asked_where_the_base_knows_the_step(base: LoadedModel, tmp_path: Path) -> None:
    segments = Segments(base.model)
    facts = made_up(6, segments, base.tokenizer, seed=0)
    assert {hop for fact in facts for hop in fact.hops} == set()  # a random model knows no capitals
    example = example_of(replace(facts[0], hops=(("The capital there is", "Oslo"),)), hops=True)
    assert example.asks[-1] == ("The capital there is", "Oslo")
    assert len(example_of(facts[0], hops=False).asks) == len(facts[0].asks)
    settings = replace(SETTINGS, steps=2, world=6, asks=3, row_tokens=120, answer_tokens=40)
    report = train_hypernet(
        base, preset="propmend", out=tmp_path, config=replace(SHAPE, inner="text"), settings=settings
    )
    assert (report.steps, report.examples) == (2, 6)
    adapter = PropMendAdapter(base.model, base.tokenizer, weights=tmp_path)
    assert adapter.name == "propmend"
    down = load(adapter.prepare([make_edit(0)])["e0"])["down"]
    assert down.shape[:2] == (2, 4)  # of all the text's tokens


def test_training_keeps_a_texts_change_within_the_kept_rank() -> None:
    torch.manual_seed(0)
    down, up = torch.randn(2, 9, 30), torch.randn(2, 9, 20)
    small_down, small_up = compressed(down, up, 4)
    kept = within_rank(down, up, 4)
    torch.testing.assert_close(kept.transpose(1, 2) @ down, small_up.transpose(1, 2) @ small_down, atol=1e-3, rtol=1e-3)


def test_a_row_of_no_known_form_is_named_with_what_it_lacks(base: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match=r"rows\.jsonl.*the field 'target' is missing") as caught:
        train(base, path, tmp_path / "out")
    assert "KeyError" not in str(caught.value)


def test_gating_the_factors_is_gating_the_gradient(base: LoadedModel) -> None:
    network = new_network(replace(SHAPE, network="text", rank=4), base.model, step_size=0.1, seed=3)
    assert isinstance(network, KnowledgeEditor)
    for head in network.heads:
        torch.nn.init.normal_(head[-1].weight)
    maps, d_in, d_out = len(SHAPE.layers), network.d_in, network.d_out
    x, d = torch.randn(maps, 5, d_in), torch.randn(maps, 5, d_out)
    text = read_text(base.model, [5, 6, 7], [8])
    with torch.no_grad():
        down, up = network(x, d, text)
        states = network.reader(text)[1][0].flatten()
        for m, head in enumerate(network.heads):
            ca, ra, cb, rb, s = head(torch.tanh(states)).split([d_in, d_out, d_in, d_out, 1])
            gate = torch.outer(ra.softmax(0) * d_out, 1 + ca)
            whole = (d[m].T @ x[m]) * gate + torch.outer(rb.softmax(0) * d_out, cb)
            torch.testing.assert_close(up[m].T @ down[m], -0.1 * torch.sigmoid(s) * whole, rtol=1e-4, atol=1e-4)


def test_a_network_that_reads_the_text_learns_and_its_factors_are_kept(
    base: LoadedModel, data: Path, tmp_path: Path
) -> None:
    shape = replace(SHAPE, network="text", rank=8)
    report = train(base, data, tmp_path, config=shape, preset="knowledge_editor")
    assert sum(loss.edit for loss in report.losses[-4:]) < sum(loss.edit for loss in report.losses[:4])
    adapter = KnowledgeEditorAdapter(base.model, base.tokenizer, weights=tmp_path)
    edit, more = make_edit(1, "the mill of ada is run by", "hana"), make_edit(2, "the mill of bo is", "ada")
    one, other = (adapter.prepare(edits)["e1"] for edits in ([edit], [edit, more]))
    assert load(one)["down"].shape[:2] == (len(shape.layers), shape.factors)
    assert one == other
